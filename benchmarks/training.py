"""Training throughput: the loop of DCGAN tutorials vs `training.loop.trainer`, with the same networks, batch and data.

    python -m benchmarks.training --config dcgan-28 --threads 2

Each loop has its own process. The loops alternate, so that only one computes at a time. A ratio compares two adjacent
rounds, so that other load on the machine affects both. The output is a Markdown table.
"""

import argparse
import json
import multiprocessing
import sys
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import matrix_rate, memory_of_tree
from benchmarks.plain_loop import PlainLoop
from serving.engine.cpus import available_cpus
from training.datasets import critters, loaders
from training.loop.device import describe_device, precision_on
from training.loop.trainer import Trainer
from training.recipe import Recipe, from_dict

CRITTERS = 10_000  # images in the folder of the 64 px configurations
MAX_WORKERS = 16
WARM_UP_STEPS = 3
POLL_SECONDS = 0.2  # between two readings of the memory of a loop; one takes 20 ms for each process

MNIST = {"name": "DCGAN, 28 px, MNIST", "data": {"name": "mnist", "resolution": 28}, "optimizer": {"batch": 64}}
FOLDER = {"name": "DCGAN, 64 px, critters", "data": {"name": "folder", "resolution": 64}, "optimizer": {"batch": 128}}
CONFIGS: dict[str, dict[str, Any]] = {
    "dcgan-28": MNIST | {"network": {"base_channels": 64}},
    "dcgan-64": FOLDER | {"network": {"base_channels": 64}},
    "dcgan-64-wide": FOLDER | {"network": {"base_channels": 128}},  # as Radford et al. 2016
}


class Job(NamedTuple):
    """Arguments of the process of a loop."""

    config: str
    folder: Path
    device: str
    threads: int
    workers: int  # of the DataLoader of the plain loop
    compile: bool  # compile the networks of the trainer


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Properties of a loop, known after its first step."""

    generator_parameters: int
    discriminator_parameters: int
    batch: int
    flops_per_image: float  # convolutions and matrix products of a step; a multiply-add counts as two


class Round(NamedTuple):
    images_per_second: float
    statistics: dict[str, float]  # means over the round
    cuda_memory: int | None  # peak since the start, in bytes


def recipe_of(config: str) -> Recipe:
    return from_dict({"id": config, "family": "dcgan", "total_kimg": 1e9, "precision": "bfloat16", **CONFIGS[config]})


def prepare(recipe: Recipe, folder: Path) -> Path:
    """Return the folder that both loops read. Render the critters into it if they are missing."""
    if recipe.data.name == "mnist":
        return folder
    images = folder / f"critters-{critters.SIZE}-png"
    if not images.is_dir():
        partial = images.with_suffix(".partial")
        (partial / "critters").mkdir(parents=True, exist_ok=True)  # ImageFolder needs a folder for each class
        for i, image in enumerate(critters.render_range(0, CRITTERS)):
            Image.fromarray(image).save(partial / "critters" / f"{i:05d}.png")
        partial.replace(images)  # an interrupted run leaves no incomplete folder
    return images


def set_up(loop: str, job: Job) -> PlainLoop | Trainer:
    recipe, device = recipe_of(job.config), torch.device(job.device)
    if loop == "plain":
        return PlainLoop(recipe, job.folder, device, job.workers)
    trainer = Trainer(recipe, loaders.load(recipe.data.name, job.folder, recipe.data.resolution), device)
    if job.compile:
        trainer.generator.compile()
        trainer.discriminator.compile()
    return trainer


def take_rounds(parent: Connection, name: str, job: Job) -> None:
    """Main function of the process of a loop: send its Facts, then a Round for each number of seconds received."""
    torch.set_num_threads(job.threads)
    device, batch = torch.device(job.device), recipe_of(job.config).optimizer.batch
    loop = set_up(name, job)
    with FlopCounterMode(display=False) as counter:
        loop.step()
    facts = Facts(
        generator_parameters=sum(p.numel() for p in loop.generator.parameters()),
        discriminator_parameters=sum(p.numel() for p in loop.discriminator.parameters()),
        batch=batch,
        flops_per_image=counter.get_total_flops() / batch,
    )
    parent.send(facts)
    for _ in range(WARM_UP_STEPS):
        loop.step()
    with suppress(EOFError):
        while True:
            parent.send(one_round(loop, parent.recv(), batch, device))


def one_round(loop: PlainLoop | Trainer, seconds: float, batch: int, device: torch.device) -> Round:
    """Train for `seconds`. Statistics are read once, at the end, as a run does at each tick."""
    sums: dict[str, Any] = {}
    began, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - began < seconds:
        for name, value in loop.step().items():
            sums[name] = sums[name] + value if name in sums else value
        steps += 1
    means = {name: float(total) / steps for name, total in sums.items()}
    cuda_memory = None
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        cuda_memory = torch.cuda.max_memory_allocated(device)
    return Round(steps * batch / (time.perf_counter() - began), means, cuda_memory)


class LoopProcess:
    """Handle of a loop in its own process. `close` ends the process."""

    def __init__(self, name: str, job: Job, warm_up_seconds: float):
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=take_rounds, args=(theirs, name, job))
        self.process.start()
        theirs.close()
        self.rounds: list[Round] = []
        self.peak_memory = 0  # bytes: on CUDA of the device, otherwise of the process and its workers
        # Memory is read only during the set-up and a warm-up round, because a reading takes time.
        self.facts: Facts = self._reply(watched=True)
        self.pipe.send(warm_up_seconds)
        self.peak_memory = self._reply(watched=True).cuda_memory or self.peak_memory

    def take_round(self, seconds: float) -> None:
        self.pipe.send(seconds)
        self.rounds.append(self._reply())

    def close(self) -> None:
        self.pipe.close()
        self.process.join()

    def _reply(self, *, watched: bool = False) -> Any:
        assert self.process.pid is not None
        while watched and not self.pipe.poll(POLL_SECONDS):
            self.peak_memory = max(self.peak_memory, memory_of_tree(self.process.pid))
        try:
            return self.pipe.recv()
        except EOFError:
            raise SystemExit(f"error: the process of the {self.name} loop ended early; see its output above.") from None


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Results of one loop."""

    precision: str
    facts: Facts
    peak_memory: int  # in bytes
    images_per_second: list[float]  # one for each round
    statistics: dict[str, float]  # means of the last round


@dataclass(frozen=True, kw_only=True)
class Result:
    config: str
    device: str
    torch: str
    workers: int
    compiled: bool
    plain: Loop
    ours: Loop
    ratios: list[float]  # ours / plain, one for each round
    matrix_rates: dict[str, list[float]]  # precision -> FLOP/s, one for each round


def measure(job: Job, seconds: float, rounds: int) -> Result:
    recipe, device = recipe_of(job.config), torch.device(job.device)
    torch.set_num_threads(job.threads)
    matrix_rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    with ExitStack() as stack:
        plain, ours = (stack.enter_context(closing(LoopProcess(name, job, seconds))) for name in ("plain", "ours"))
        for _ in range(rounds):
            for precision, rates in matrix_rates.items():
                rates.append(matrix_rate(getattr(torch, precision), device))
            for process in (plain, ours):
                process.take_round(seconds)

    def measured(process: LoopProcess, precision: str) -> Loop:
        return Loop(
            precision=precision,
            facts=process.facts,
            peak_memory=process.peak_memory,
            images_per_second=[taken.images_per_second for taken in process.rounds],
            statistics=process.rounds[-1].statistics,
        )

    return Result(
        config=job.config,
        device=describe_device(device),
        torch=torch.__version__,
        workers=job.workers,
        compiled=job.compile,
        plain=measured(plain, "float32"),
        ours=measured(ours, precision_on(device, recipe.precision)),
        ratios=[b.images_per_second / a.images_per_second for a, b in zip(plain.rounds, ours.rounds, strict=True)],
        matrix_rates=matrix_rates,
    )


def table(result: Result) -> str:
    """Return the result as a Markdown table."""
    plain, ours, config = result.plain, result.ours, CONFIGS[result.config]
    generator, discriminator = plain.facts.generator_parameters, plain.facts.discriminator_parameters
    lines = [
        f"{config['name']}, {config['network']['base_channels']} base channels, batch {plain.facts.batch} "
        f"({generator:,} and {discriminator:,} parameters). {result.device}, torch {result.torch}; "
        f"median (minimum to maximum) of {len(result.ratios)} alternating rounds.",
        "",
        "| loop | images/s | vs plain | peak memory | vs plain | multiply-adds per image | share of the matrix rate |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    workers = f"{result.workers} worker{'s' * (result.workers != 1)}"
    names = {
        f"plain, {plain.precision}, {workers}": (plain, "1"),
        f"ours, {ours.precision}{', compiled' * result.compiled}": (ours, spread(result.ratios, ".2f")),
    }
    for name, (loop, times) in names.items():
        rate = median(result.matrix_rates[loop.precision])
        share = median(loop.images_per_second) * loop.facts.flops_per_image / rate
        cells = [
            name,
            spread(loop.images_per_second, ",.0f"),
            times,
            f"{loop.peak_memory / 1e6:,.0f} MB",
            f"{loop.peak_memory / plain.peak_memory:.2f}",
            f"{loop.facts.flops_per_image / 2e6:,.1f} million",
            f"{share:.0%} of {rate / 1e12:.3g} TFLOP/s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main(arguments: list[str] | None = None) -> None:
    cpus = available_cpus()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", choices=CONFIGS, default="dcgan-28", help="(%(default)s)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="data folder (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=cpus, help="CPU threads of each loop (%(default)s)")
    parser.add_argument(
        "--workers", type=int, default=min(cpus, MAX_WORKERS), help="worker processes of the DataLoader (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each loop (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="compile our networks with torch.compile")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all values to this file")
    args = parser.parse_args(arguments)
    if sys.platform != "linux":
        parser.error(f"the platform is {sys.platform}; it must be linux, because memory is read from /proc.")
    folder = prepare(recipe_of(args.config), args.data)
    job = Job(args.config, folder, args.device, args.threads, args.workers, args.compile)
    result = measure(job, args.seconds, args.rounds)
    if args.json:
        args.json.write_text(json.dumps(asdict(result), indent=2) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()

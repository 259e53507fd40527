"""Benchmark of bulk generation against the model alone: throughput, memory, and CPU time of the client.

    python -m benchmarks.bulk --rounds 3
    python -m benchmarks.bulk --memory 10000 1000000

"The model alone" is `Runtime.synthesize` on precomputed latents, with one thread for each CPU core. Its images are
discarded. Each round measures the model alone and every engine in turn, so that other load on the machine affects all
of them. A ratio compares two values of the same round. The output is Markdown.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.machine import memory_of_tree
from benchmarks.processes import ROOT, running, serve
from serving.bulk.engines import Local, Servers
from serving.bulk.job import plan
from serving.bulk.storage import Store
from serving.client import Client
from serving.engine.cpus import available_cpus
from serving.engine.latents import address_range, latents
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime

SHARD_SIZE = 5000  # half the default, so that a round is short
PAGE = 256
QUIET = {"GANYMEDE_DRAIN": "0", "GANYMEDE_LOG_LEVEL": "error"}
POLL_SECONDS = 0.5  # between two readings of the memory of a run


def model_alone(folder: Path, threads: int, images: int) -> float:
    """Return the images/s of the ONNX graph on precomputed latents."""
    runtime = Runtime(load_model(folder), threads=threads)
    z = latents(address_range(7, 0, PAGE * threads), runtime.model.latent_size)
    if runtime.model.style is not None or runtime.model.classes is not None:
        raise SystemExit(
            f"`--model` (={runtime.model.id}) has labels or two graphs; choose a model with one graph and no labels."
        )
    runtime.synthesize({"z": z})
    made, began = 0, time.perf_counter()
    while made < images:
        made += len(runtime.synthesize({"z": z}))
    return made / (time.perf_counter() - began)


def engine_rate(engine: Local | Servers, images: int, folder: Path) -> float:
    """Return the images/s of an engine while all its workers are busy."""
    job = plan(engine.subject, n=images, seed=7, shard_size=SHARD_SIZE)
    done: list[float] = []
    with closing(engine(job, job.shards(), Store(str(folder)))) as made:
        for _ in made:
            done.append(time.perf_counter())
    shutil.rmtree(folder)
    return SHARD_SIZE * shards_per_second(done, engine.workers)


def shards_per_second(done: Sequence[float], workers: int) -> float:
    """Return the shards/s from the times (s) at which shards were finished, while no worker is idle.

    The last `workers` shards are left out: some workers are idle then, which depends only on the number of shards.
    """
    last = len(done) - workers
    return last / (done[last] - done[0])


def client_cost(url: str, model: str, images: int) -> float:
    """Return the CPU time of this process, in ms for each image, that fetching takes in pages of 256."""
    with Client(url) as client:
        for _ in client.stream(model, n=PAGE, seed=7):
            pass
        began = time.process_time()
        fetched = sum(1 for _ in client.stream(model, n=images, seed=7))
        return 1000 * (time.process_time() - began) / fetched


def peak_memory(model: str, images: int, folder: Path) -> tuple[int, float]:
    """Return the peak memory of the command and its workers in bytes, and its images/s with the start included.

    Shards hold 5,000 images, so that 10,000 images keep two workers busy.
    """
    words = ["generate", model, "-n", str(images), "--seed", "7", "--out", str(folder), "--shard-size", "5000"]
    began, peak = time.perf_counter(), 0
    command, quiet = [sys.executable, "-m", "serving", *words], subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, stdout=quiet, stderr=quiet) as process:
        while process.poll() is None:
            peak = max(peak, memory_of_tree(process.pid))
            time.sleep(POLL_SECONDS)
    if process.returncode:
        raise SystemExit(
            f"`generate` ended with exit code {process.returncode}; it must be 0. Run it alone to see why."
        )
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return peak, images / seconds


def throughput(model: str, images: int, rounds: int, workers: int, port: int, folder: Path) -> None:
    path = ROOT / "models" / model
    rates: dict[str, list[float]] = {}
    costs: list[float] = []

    def measure(name: str, rate: Callable[[], float]) -> None:
        rates.setdefault(name, []).append(rate())
        print(f"{name}: {rates[name][-1]:.0f} images/s", file=sys.stderr)

    for _ in range(rounds):
        measure("the model alone", lambda: model_alone(path, workers, images))
        for count in sorted({1, workers}):
            engine = Local(path, workers=count)
            measure(f"local engine, {count} worker(s)", lambda engine=engine: engine_rate(engine, images, folder))
        with running(serve(port), port, folder.with_suffix(".log"), QUIET):
            url = f"http://127.0.0.1:{port}"
            remote = Servers([url], model, workers=workers)
            measure(
                "server engine, one server on this machine", lambda remote=remote: engine_rate(remote, images, folder)
            )
            costs.append(client_cost(url, model, images))
    print(f"`{model}`, WebDataset of PNG, {images:,} images per round, {rounds} rounds, {workers} CPU cores:\n")
    print("| | images/s (median) | relative to the model alone (median, minimum to maximum) |\n| --- | --- | --- |")
    for name, found in rates.items():
        ratios = [rate / alone for rate, alone in zip(found, rates["the model alone"], strict=True)]
        print(f"| {name} | {median(found):,.0f} | {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    print(f"\nCPU time of the client, in pages of {PAGE}: {median(costs):.4f} ms for each image.")


def memory(model: str, counts: list[int], folder: Path) -> None:
    print(f"`{model}`, WebDataset of PNG, local engine:\n")
    print("| images | peak memory of all processes | images/s, start included |\n| --- | --- | --- |")
    peaks: list[int] = []
    for images in counts:
        peak, rate = peak_memory(model, images, folder)
        peaks.append(peak)
        print(f"| {images:,} | {peak / 2**20:.0f} MiB | {rate:,.0f} |", flush=True)
    for (fewer, less), (more, greater) in pairwise(zip(counts, peaks, strict=True)):
        print(f"\nFrom {fewer:,} to {more:,} images: {greater / less:.2f} times the memory.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dcgan-mnist", help="model in models/ (default: dcgan-mnist)")
    parser.add_argument("--images", type=int, help="images in each round (default: six shards for each worker)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument(
        "--workers", type=int, default=available_cpus(), help="worker processes (default: one for each CPU core)"
    )
    parser.add_argument("--port", type=int, default=3071, help="port of the measured server (default: 3071)")
    parser.add_argument(
        "--memory", type=int, nargs="+", metavar="N", help="measure the peak memory of runs of N images"
    )
    args = parser.parse_args()
    images, least = args.images or 6 * SHARD_SIZE * args.workers, 2 * SHARD_SIZE * args.workers
    if images < least:
        parser.error(f"`images` (={images}) must be at least {least:,}: two shards for each of {args.workers} workers.")
    with tempfile.TemporaryDirectory(prefix="ganymede-") as name:
        if args.memory:
            memory(args.model, args.memory, Path(name) / "out")
        else:
            throughput(args.model, images, args.rounds, args.workers, args.port, Path(name) / "out")


if __name__ == "__main__":
    main()

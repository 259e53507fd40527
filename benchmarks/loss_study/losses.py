"""The runs of the loss study: each trains a setting on a task whose modes are all known.

Each (setting, task, seed) is a run of the trainer that trains models. What it measured is one line of `results.jsonl`
in the study's folder, written when the run is done; a study that was stopped goes on with those that are missing.
"""

import hashlib
import itertools
import json
import os
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.loss_study import ring, stacked
from benchmarks.loss_study.settings import RING, STACKED, Setting
from training import recipe
from training.datasets.dataset import Dataset
from training.errors import TrainingDiverged, TrainingError
from training.loop.non_finite import check_finite
from training.loop.trainer import Trainer
from training.recipe import Recipe

RESULTS = "results.jsonl"
FOLDER = Path(__file__).parent
QUICK_SAMPLES = 250

Result = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A data set of which all modes are known, and how a generator of it is measured."""

    settings: tuple[Setting, ...]
    base: str  # the recipe that the settings override
    quick: tuple[str, ...]  # overrides for a run of seconds
    dataset: Callable[[Path], Dataset]  # of the data folder
    look: Callable[[Trainer, Path, int], tuple[dict[str, float], np.ndarray]]
    samples: int  # that are measured at a look
    looks: int  # in a run, at even distances, the last at its end


TASKS = {
    "ring": Task(RING, "ring.toml", ("total_kimg=2.56",), ring.dataset, ring.look, ring.SAMPLES, 5),
    "stacked": Task(
        STACKED,
        "stacked.toml",
        ("total_kimg=0.128", "optimizer.batch=16", "network.base_channels=8"),
        stacked.dataset,
        stacked.look,
        stacked.SAMPLES,
        1,
    ),
}


class Run(NamedTuple):
    task: str
    setting: Setting
    seed: int
    quick: bool

    @property
    def overrides(self) -> list[str]:
        return [*self.setting.overrides, *(TASKS[self.task].quick if self.quick else ()), f"seed={self.seed}"]

    @property
    def recipe(self) -> Recipe:
        return recipe.load(str(FOLDER / TASKS[self.task].base), self.overrides)

    @property
    def id(self) -> str:
        """Another one if what the setting or its task's recipe says is changed; not if recipes gain a field."""
        said = repr((tomllib.loads((FOLDER / TASKS[self.task].base).read_text()), self.overrides))
        return f"{self.task}-{self.setting.name}-{self.seed}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"

    def samples(self, out: Path) -> Path:
        return out / "samples" / f"{self.id}.npy"


def runs(tasks: list[str], seeds: int, only: list[str] | None, quick: bool) -> list[Run]:
    """What a study consists of, all of one seed before the next. Raises TrainingError for an unknown setting."""
    known = {setting.name for task in tasks for setting in TASKS[task].settings}
    if unknown := sorted(set(only or ()) - known):
        raise TrainingError(f"`--only` (={unknown[0]!r}) must be among {', '.join(sorted(known))}.")
    return [
        Run(task, setting, seed, quick)
        for seed, task in itertools.product(range(seeds), tasks)
        for setting in TASKS[task].settings
        if not only or setting.name in only
    ]


def study(out: Path, data: Path, planned: list[Run], jobs: int) -> list[Result]:
    """Trains and measures what `out` does not hold yet -> the results of all that is planned."""
    (out / "samples").mkdir(parents=True, exist_ok=True)
    known = {result["id"]: result for result in load(out)}
    missing = [run for run in planned if run.id not in known]
    if missing:
        print(f"{out}: {len(planned) - len(missing)} of {len(planned)} runs are there", flush=True)
    start = time.monotonic()
    for done, result in enumerate(_trained(missing, out, data, jobs), 1):
        known[result["id"]] = result
        with (out / RESULTS).open("a") as file:
            file.write(json.dumps(result) + "\n")
        left = (time.monotonic() - start) / done * (len(missing) - done)
        print(f"{done}/{len(missing)} {describe(result)}; {left / 60:.0f} min left", flush=True)
    return [known[run.id] for run in planned]


def load(out: Path) -> list[Result]:
    """All results in a study's folder, those of settings as they once were too."""
    path = out / RESULTS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def describe(result: Result) -> str:
    """One line, for whoever waits."""
    measures = {} if result["diverged"] else result["looks"][-1]
    values = ", ".join(f"{name} {value:.3g}" for name, value in measures.items()) or "diverged"
    return f"{result['task']} {result['setting']} seed {result['seed']}: {values}, {result['seconds']:.0f} s"


def _trained(missing: list[Run], out: Path, data: Path, jobs: int) -> Iterator[Result]:
    if jobs == 1:
        yield from (train(run, out, data) for run in missing)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(train, run, out, data) for run in missing]
        yield from (future.result() for future in as_completed(futures))


def train(run: Run, out: Path, data: Path) -> Result:
    """One run on one thread; keeps samples of its looks. `seconds` are the processor's, without the looks."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(run, out, data)
    finally:
        torch.set_num_threads(threads)


def _train(run: Run, out: Path, data: Path) -> Result:
    task, chosen = TASKS[run.task], run.recipe
    samples = QUICK_SAMPLES if run.quick else task.samples
    job = Trainer(chosen, task.dataset(data), torch.device("cpu"))
    looks: list[dict[str, float]] = []
    kept: list[np.ndarray] = []
    seconds, diverged = 0.0, False
    statistics: dict[str, torch.Tensor] = {}
    try:
        for part in range(1, task.looks + 1):
            start = time.process_time()
            while job.kimg < chosen.total_kimg * part / task.looks:
                statistics = job.step()
            seconds += time.process_time() - start
            check_finite(job, {name: value.item() for name, value in statistics.items()})
            values, points = task.look(job, data, samples)
            looks.append({"kimg": job.kimg, **values})
            kept.append(points)
    except TrainingDiverged:
        diverged = True
    np.save(run.samples(out), np.stack(kept) if kept else np.empty(0))
    return {
        "id": run.id,
        "task": run.task,
        "setting": run.setting.name,
        "seed": run.seed,
        "looks": looks,
        "diverged": diverged,
        "seconds": seconds,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }

"""Runs of the loss study. Each run trains one setting on a task whose modes are all known.

A run is a (task, setting, seed) and uses the same Trainer as the published models. When it ends, its metrics are
appended to `results.jsonl` in the folder of the study. A study that was interrupted resumes with the missing runs.
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
    """Dataset whose modes are all known, and the evaluation of a generator on it."""

    settings: tuple[Setting, ...]
    base: str  # recipe that the settings override
    quick: tuple[str, ...]  # overrides for a run of a few seconds
    dataset: Callable[[Path], Dataset]  # takes the data folder
    evaluate: Callable[[Trainer, Path, int], tuple[dict[str, float], np.ndarray]]
    samples: int  # in each evaluation
    evaluations: int  # in a run, evenly spaced; the last one is at the end


TASKS = {
    "ring": Task(RING, "ring.toml", ("total_kimg=2.56",), ring.dataset, ring.evaluate, ring.SAMPLES, 5),
    "stacked": Task(
        STACKED,
        "stacked.toml",
        ("total_kimg=0.128", "optimizer.batch=16", "network.base_channels=8"),
        stacked.dataset,
        stacked.evaluate,
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
        """Id that changes with the overrides or the recipe file, but not if recipes gain a field."""
        content = repr((tomllib.loads((FOLDER / TASKS[self.task].base).read_text()), self.overrides))
        return f"{self.task}-{self.setting.name}-{self.seed}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    def samples(self, out: Path) -> Path:
        return out / "samples" / f"{self.id}.npy"


def runs(tasks: list[str], seeds: int, only: list[str] | None, quick: bool) -> list[Run]:
    """Return the runs of a study, ordered by seed. Raises TrainingError for an unknown setting."""
    known = {setting.name for task in tasks for setting in TASKS[task].settings}
    if unknown := sorted(set(only or ()) - known):
        raise TrainingError(f"`--only` is {unknown[0]!r}; it must be one of {', '.join(sorted(known))}.")
    return [
        Run(task, setting, seed, quick)
        for seed, task in itertools.product(range(seeds), tasks)
        for setting in TASKS[task].settings
        if not only or setting.name in only
    ]


def study(out: Path, data: Path, planned: list[Run], jobs: int) -> list[Result]:
    """Train and evaluate the runs whose results are not in `out` yet. Return the results of all planned runs."""
    (out / "samples").mkdir(parents=True, exist_ok=True)
    known = {result["id"]: result for result in load(out)}
    missing = [run for run in planned if run.id not in known]
    if missing:
        print(f"{out}: {len(planned) - len(missing)} of {len(planned)} runs have results already", flush=True)
    start = time.monotonic()
    for done, result in enumerate(_trained(missing, out, data, jobs), 1):
        known[result["id"]] = result
        with (out / RESULTS).open("a") as file:
            file.write(json.dumps(result) + "\n")
        left = (time.monotonic() - start) / done * (len(missing) - done)
        print(f"{done}/{len(missing)} {describe(result)}; {left / 60:.0f} min left", flush=True)
    return [known[run.id] for run in planned]


def load(out: Path) -> list[Result]:
    """Return all results in the folder of a study, including those of older versions of the settings."""
    path = out / RESULTS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def describe(result: Result) -> str:
    """Return the result as one line of progress output."""
    metrics = {} if result["diverged"] else result["looks"][-1]
    values = ", ".join(f"{name} {value:.3g}" for name, value in metrics.items()) or "diverged"
    return f"{result['task']} {result['setting']} seed {result['seed']}: {values}, {result['seconds']:.0f} s"


def _trained(missing: list[Run], out: Path, data: Path, jobs: int) -> Iterator[Result]:
    if jobs == 1:
        yield from (train(run, out, data) for run in missing)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(train, run, out, data) for run in missing]
        yield from (future.result() for future in as_completed(futures))


def train(run: Run, out: Path, data: Path) -> Result:
    """Train one run on one thread and save the samples of its evaluations. `seconds` is the CPU time of training."""
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
    evaluations: list[dict[str, float]] = []
    kept: list[np.ndarray] = []
    seconds, diverged = 0.0, False
    statistics: dict[str, torch.Tensor] = {}
    try:
        for part in range(1, task.evaluations + 1):
            start = time.process_time()
            while job.kimg < chosen.total_kimg * part / task.evaluations:
                statistics = job.step()
            seconds += time.process_time() - start
            check_finite(job, {name: value.item() for name, value in statistics.items()})
            values, points = task.evaluate(job, data, samples)
            evaluations.append({"kimg": job.kimg, **values})
            kept.append(points)
    except TrainingDiverged:
        diverged = True
    np.save(run.samples(out), np.stack(kept) if kept else np.empty(0))
    return {
        "id": run.id,
        "task": run.task,
        "setting": run.setting.name,
        "seed": run.seed,
        "looks": evaluations,
        "diverged": diverged,
        "seconds": seconds,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }

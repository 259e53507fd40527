"""On CUDA a step that is replayed is the step that would have been run."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from short_runs import STABILIZERS
from small import OVERRIDES, small_trainer
from training.loop import checkpoint
from training.loop.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")


@pytest.fixture(autouse=True)
def deterministic_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others add in any order: twenty steps at these rates then end elsewhere, replayed or not."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


CASES = {name: (name,) for name in OVERRIDES} | STABILIZERS | {"bfloat16": ("dcgan-mnist", "precision=bfloat16")}
STEPS = 20


def trained(job: Trainer, steps: int = STEPS) -> dict[str, Any]:
    """The run's state after so many steps, on the CPU, and the sums of its statistics."""
    sums: dict[str, float] = {}
    for _ in range(steps):
        for name, value in job.step().items():
            sums[name] = sums.get(name, 0.0) + float(value)
    parts = {name: getattr(job, name).state_dict() for name in ("generator", "discriminator", "average")}
    return {name: {k: v.cpu() for k, v in part.items()} for name, part in parts.items()} | {"sums": sums}


def far_apart(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two states differ by more than kernels chosen anew make them."""
    if isinstance(a, dict):
        return [d for key in a.keys() | b.keys() for d in far_apart(a[key], b[key], f"{path}.{key}")]
    a, b = torch.as_tensor(a).float(), torch.as_tensor(b).float()
    error = float((a - b).norm() / b.norm().clamp(min=1e-3))
    return [] if error < 0.02 else [f"{path}: {error:.3f}"]


@pytest.mark.parametrize("case", CASES)
def test_replayed_steps_are_the_steps_run_eagerly(case: str, cache: Path):
    name, *overrides = CASES[case]
    job = small_trainer(name, cache, *overrides, device="cuda")
    replayed = trained(job)
    assert bool(job.graphs and job.graphs.recorded) == (not job.recipe.stabilizer.unrolled_steps)
    job = small_trainer(name, cache, *overrides, device="cuda")
    job.graphs = None
    assert far_apart(replayed, trained(job)) == []


def test_a_resumed_run_records_anew_and_is_the_unbroken_one(cache: Path):
    whole = trained(small_trainer("cgan-mnist", cache, device="cuda"))
    job = small_trainer("cgan-mnist", cache, device="cuda")
    trained(job, 8)
    state = copy.deepcopy(checkpoint.capture(job))
    job = small_trainer("cgan-mnist", cache, device="cuda")
    trained(job, 5)  # records what restoring replaces
    assert checkpoint.restore(job, state)
    resumed = trained(job, STEPS - 8)
    assert far_apart(resumed | {"sums": {}}, whole | {"sums": {}}) == []

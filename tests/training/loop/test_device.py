"""Runs compute in what their recipes ask for where the device has it, and say what they did."""

import sys
from pathlib import Path

import pytest
import torch

from small import small_trainer
from training.loop import checkpoint, device
from training.loop.device import load_advice, precision_on

CPU = torch.device("cpu")


def weights(job: object) -> list[torch.Tensor]:
    return [*job.generator.parameters(), *job.discriminator.parameters()]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(("has", "computes_in"), [(True, "bfloat16"), (False, "float32")])
def test_a_run_is_in_bfloat16_only_where_the_device_has_it(
    has: bool, computes_in: str, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(device, "_has_bfloat16", lambda device: has)
    job, exact = (small_trainer("mlp-mnist", cache, f"precision={asked}") for asked in ("bfloat16", "float32"))
    for either in (job, exact):
        torch.manual_seed(0)
        either.step()
    equal = all(map(torch.equal, weights(job), weights(exact)))
    assert equal == (computes_in == "float32")
    assert computes_in in checkpoint.snapshot(job)["device"] and "float32" in checkpoint.snapshot(exact)["device"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_a_cpu_has_bfloat16_where_it_has_the_instructions():
    flags = Path("/proc/cpuinfo").read_text().split()
    if "avx2" not in flags:
        pytest.skip("not an x86 of these years")
    assert precision_on(CPU, "bfloat16") == ("bfloat16" if "avx512bw" in flags else "float32")
    assert precision_on(CPU, "float32") == "float32"


@pytest.mark.parametrize(("kind", "threads", "load", "advises"), [
    ("cpu", 2, 3.5, True), ("cpu", 2, 1.9, False), ("cpu", 1, 9.0, False), ("cuda", 2, 9.0, False),
])  # fmt: skip
def test_several_threads_beside_busy_cores_are_advised_against(kind: str, threads: int, load: float, advises: bool):
    advice = load_advice(torch.device(kind), threads, load, 2)
    assert (advice is not None) == advises
    assert advice is None or ("3.5 on 2 cores" in advice and "--threads 1" in advice)

"""Training benchmark: both loops have equal networks, losses and data, and the table holds the measured values."""

import contextlib
import dataclasses
import io
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import training as benchmark
from benchmarks.machine import memory_of_tree
from benchmarks.plain_loop import PlainLoop
from training.datasets import loaders
from training.datasets.transforms import to_unit
from training.loop.device import precision_on
from training.loop.trainer import Trainer
from training.networks import dcgan
from training.recipe import Recipe

DATA = Path(__file__).with_name("data")
CPU = torch.device("cpu")
MEGABYTE = 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

# Multiply-adds of one forward pass of DCGAN-28 with 64 base channels, layer by layer: output or, for a transposed
# convolution, input pixels x kernel x channels in x channels out.
GENERATOR = [49 * 100 * 128, 49 * 16 * 128 * 64, 196 * 16 * 64 * 1]
DISCRIMINATOR = [196 * 16 * 1 * 64, 49 * 16 * 64 * 128, 49 * 128 * 1]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, Any]]]:
    """Output of a short run: the printed text and the JSON document."""
    out = tmp_path_factory.mktemp("benchmark") / "results.json"
    threads = torch.get_num_threads()
    with contextlib.redirect_stdout(io.StringIO()) as text:
        arguments = ["--device=cpu", "--threads=1", "--workers=1", f"--data={DATA}", f"--json={out}"]
        benchmark.main([*arguments, "--seconds=0.1", "--rounds=2"])
    yield text.getvalue(), json.loads(out.read_text())
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_run_prints_every_metric_of_both_loops(printed: tuple[str, dict[str, Any]]):
    text, results = printed
    assert "64 base channels, batch 64" in text and ", 1 thread, torch" in text
    head, rule, plain, ours = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert len(head) == len(rule) == len(plain) == len(ours) == 7
    assert plain[0] == "plain, float32, 1 worker" and ours[0] == f"ours, {precision_on(CPU, 'bfloat16')}"
    assert plain[2] == "1" and plain[4] == "1.00"
    for which, loop in (("plain", plain), ("ours", ours)):
        rates = sorted(results[which]["images_per_second"])
        assert len(rates) == 2 and rates[0] > 0
        assert loop[1] == f"{sum(rates) / 2:,.0f} ({rates[0]:,.0f} to {rates[1]:,.0f})"
        assert loop[3] == f"{results[which]['peak_memory'] / 1e6:,.0f} MB"
        assert 100e6 < results[which]["peak_memory"] < 20e9  # torch alone needs more than 100 MB
    assert results["ours"]["peak_memory"] <= 1.2 * results["plain"]["peak_memory"]
    assert results["ratios"] == pytest.approx(
        [b / a for a, b in zip(*(results[which]["images_per_second"] for which in ("plain", "ours")), strict=True)]
    )
    for rates in results["matrix_rates"].values():
        assert len(rates) == 2 and all(1e8 < rate < 1e14 for rate in rates)


@pytest.mark.slow
def test_the_share_of_the_matrix_rate_is_flops_over_peak(printed: tuple[str, dict[str, Any]]):
    text, results = printed
    *_, plain, ours = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    for cells, loop in ((plain, results["plain"]), (ours, results["ours"])):
        possible = sum(results["matrix_rates"][loop["precision"]]) / 2
        done = sum(loop["images_per_second"]) / 2 * loop["facts"]["flops_per_image"]
        assert cells[6] == f"{done / possible:.0%} of {possible / 1e12:.3g} TFLOP/s"


@pytest.mark.slow
def test_both_loops_have_the_same_networks_and_batch(printed: tuple[str, dict[str, Any]]):
    _, results = printed
    plain, ours = ({**results[which]["facts"], "flops_per_image": None} for which in ("plain", "ours"))
    assert plain == ours
    recipe = benchmark.recipe_of("dcgan-28")
    assert isinstance(recipe.network, dcgan.Config)
    for name, network in (("generator", dcgan.Generator), ("discriminator", dcgan.Discriminator)):
        parameters = sum(p.numel() for p in network(recipe.network, 28, 1).parameters())
        assert plain[f"{name}_parameters"] == parameters
    assert plain["batch"] == 64


@pytest.mark.slow
def test_the_multiply_adds_match_the_layers(printed: tuple[str, dict[str, Any]]):
    """A backward pass costs one forward pass for the weights and one for the inputs that need a gradient."""
    _, results = printed
    generator, discriminator = sum(GENERATOR), sum(DISCRIMINATOR)
    plain = 3 * generator - GENERATOR[0] + 2 * (3 * discriminator - DISCRIMINATOR[0]) + 3 * discriminator
    assert results["plain"]["facts"]["flops_per_image"] == 2 * plain
    # The trainer computes no discriminator gradients in the generator step, and may generate its images twice.
    assert plain - discriminator <= results["ours"]["facts"]["flops_per_image"] / 2 <= plain - discriminator + generator


def small(recipe: Recipe) -> Recipe:
    network = dataclasses.replace(recipe.network, base_channels=8)
    return dataclasses.replace(recipe, network=network, precision="float32")


def test_both_loops_minimise_the_same_losses_step_after_step(monkeypatch: pytest.MonkeyPatch):
    """Start from the same weights and use the same images and latents in float32."""
    recipe = small(benchmark.recipe_of("dcgan-28"))
    trainer = Trainer(recipe, loaders.load("mnist", DATA, 28), CPU)
    plain = PlainLoop(recipe, DATA, CPU, workers=0)
    for ours, theirs in ((trainer.generator, plain.generator), (trainer.discriminator, plain.discriminator)):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))

    images = to_unit(trainer.images)
    plain.batches = iter([images[trainer.sampler.batch(i * 64, 64)] for i in range(3)])
    z = torch.randn(64, recipe.network.latent_size)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: z)
    losses = []
    for _ in range(3):
        ours, theirs = trainer.step(), plain.step()
        for name in ("discriminator_loss", "generator_loss", "real_probability", "fake_probability"):
            assert ours[name].item() == pytest.approx(theirs[name], rel=2e-3), name
        losses.append(theirs["discriminator_loss"])
    assert losses[0] == pytest.approx(2 * math.log(2), rel=0.1)  # loss of an untrained discriminator
    assert losses[0] > losses[1] > losses[2]


def test_both_loops_train_on_the_same_images():
    recipe = small(benchmark.recipe_of("dcgan-28"))
    ours = to_unit(loaders.load("mnist", DATA, 28).images)
    theirs = PlainLoop(recipe, DATA, CPU, workers=0).loader.dataset
    assert len(theirs) == len(ours)  # pyright: ignore[reportArgumentType]
    assert torch.allclose(theirs[3][0], ours[3], atol=1e-6)


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Process with 64 MB of data and a forked child. After a line of input the child overwrites all of the data."""
    megabytes = 64
    code = (
        f"import os\nx = bytearray(b'1') * ({megabytes} << 20)\nread, write = os.pipe()\n"
        "if os.fork():\n print('ready', flush=True)\n input()\n os.write(write, b'.')\n input()\n"
        "else:\n os.read(read, 1)\n x[:] = b'2' * len(x)\n print('written', flush=True)\n os.read(read, 1)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    yield process, megabytes
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_shared_memory_counts_once_and_private_memory_each_time(
    family: tuple[subprocess.Popen[str], int],
):
    process, megabytes = family
    assert process.stdin and process.stdout
    assert process.stdout.readline() == "ready\n"
    shared = memory_of_tree(process.pid) / MEGABYTE
    assert megabytes < shared < 1.5 * megabytes
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "written\n"
    assert memory_of_tree(process.pid) / MEGABYTE == pytest.approx(shared + megabytes, rel=0.15)

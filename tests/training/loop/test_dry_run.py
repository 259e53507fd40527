"""A dry run says what a run would take: figures that can be worked out by hand, and those of a real step."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from small import small_recipe
from training.datasets.dataset import Extent
from training.loop import dry_run
from training.recipe import Recipe

N = 16  # batch of the small recipes
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]


def dcgan(*overrides: str) -> Recipe:
    """Generator 16 -> 16 x 7 x 7 -> 8 x 14 x 14 -> 1 x 28 x 28, discriminator the other way round, without norm."""
    return small_recipe("dcgan-mnist", "penalty.r1_gamma=0", "network.minibatch_discrimination=0", *overrides)


def layers_of(recipe: Recipe) -> dict[str, list[dry_run.Layer]]:
    trainer = dry_run.stand_in(recipe, 1, 10, CPU)
    return {name: dry_run.layers(network, run, N) for name, network, run in dry_run.passes(trainer)}


def test_layers_of_a_dcgan_are_those_worked_out_by_hand():
    found = layers_of(dcgan())
    assert [(layer.kind, layer.shape, layer.parameters, layer.multiply_adds) for layer in found["Generator"]] == [
        ("ConvTranspose2d", (16, 7, 7), 16 * 16 * 7 * 7, 16 * 16 * 7 * 7),
        ("BatchNorm2d", (16, 7, 7), 2 * 16, 0),
        ("ReLU", (16, 7, 7), 0, 0),
        ("ConvTranspose2d", (8, 14, 14), 16 * 8 * 4 * 4, 16 * 8 * 4 * 4 * 7 * 7),
        ("BatchNorm2d", (8, 14, 14), 2 * 8, 0),
        ("ReLU", (8, 14, 14), 0, 0),
        ("ConvTranspose2d", (1, 28, 28), 8 * 4 * 4 + 1, 8 * 4 * 4 * 14 * 14),
        ("Tanh", (1, 28, 28), 0, 0),
    ]
    assert [(layer.shape, layer.parameters, layer.multiply_adds) for layer in found["Discriminator"]] == [
        ((8, 14, 14), 8 * 4 * 4 + 8, 8 * 4 * 4 * 14 * 14),
        ((8, 14, 14), 0, 0),
        ((16, 7, 7), 8 * 16 * 4 * 4 + 16, 8 * 16 * 4 * 4 * 7 * 7),
        ((16, 7, 7), 0, 0),
        ((1, 1, 1), 16 * 7 * 7 + 1, 16 * 7 * 7),
    ]


@pytest.mark.slow
def test_memory_is_that_of_a_real_step_and_grows_with_the_batch():
    """Each in a process of its own: a process has one peak."""
    code = (
        "import sys; import torch; from small import small_recipe; from training.loop import dry_run;"
        "job = dry_run.stand_in(small_recipe('dcgan-mnist', *sys.argv[1:]), 1, 10, torch.device('cpu'));"
        "print(dry_run.peak_memory_of_a_step(job), job.steps)"
    )
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests' / 'training'}", "OMP_NUM_THREADS": "1"}
    peaks = []
    for batch in (16, 4096):
        command = [sys.executable, "-c", code, f"optimizer.batch={batch}", "network.minibatch_discrimination=0"]
        said = subprocess.run(command, env=os.environ | path, capture_output=True, text=True, check=True).stdout
        peak, steps = map(int, said.split())
        assert steps == 1
        peaks.append(peak)
    # of D alone a step keeps its input and two hidden maps, for real and generated images
    kept = 2 * 4 * (784 + 8 * 196 + 16 * 49)
    assert 50e6 < peaks[0] < 2e9
    assert kept * 4000 < peaks[1] - peaks[0] < 20 * kept * 4000


def test_a_growing_networks_unused_layers_are_described():
    recipe = small_recipe("stylegan-lite-critters-grown")
    trainer = dry_run.stand_in(recipe, 3, None, CPU)
    for _, network, run in dry_run.passes(trainer):
        layers = dry_run.layers(network, run, N)
        assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in network.parameters())
        unused = {layer.name for layer in layers if layer.shape is None}
        assert unused and all("rgb.0" in name or "rgb.1" in name for name in unused)
        largest = max((layer.shape for layer in layers if layer.shape), key=lambda shape: math.prod(shape[1:]))
        assert largest[1:] == (16, 16)


def test_a_description_is_a_table_that_adds_up():
    text = dry_run.describe(dcgan(), Extent(60_000, 1, 10), CPU)
    generator, discriminator, memory = text.split("\n\n")[1:]
    assert generator.splitlines()[-1].split() == ["total", "14,769", f"{12544 + 100352 + 25088:,}"]
    assert discriminator.splitlines()[-1].split()[1] == "2,985"
    rows = {line[:-16].strip(): float(line.split()[-2].replace(",", "")) for line in memory.splitlines()[1:]}
    assert rows["data: 60,000 images"] == pytest.approx(60_000 * 784 / 2**20, abs=0.06)
    generator_parameters, parameters = 14_769, 14_769 + 2_985
    assert rows["gradients"] == pytest.approx(4 * parameters / 2**20, abs=0.06)
    assert rows["Adam's moments"] == pytest.approx(8 * parameters / 2**20, abs=0.06)
    assert rows["average of the generator"] == pytest.approx(4 * generator_parameters / 2**20, abs=0.06)
    peak = rows["peak of one step on cpu, measured"]
    assert rows["total: the peak and the data"] == pytest.approx(peak + rows["data: 60,000 images"], abs=0.2)
    widths = {len(line) for line in generator.splitlines()[1:]}
    assert len(widths) == 1  # columns stand under each other

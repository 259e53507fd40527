"""A dry run says what a run would take: figures that can be worked out by hand, and those of a real step."""

import math
from pathlib import Path

import pytest
import torch

from small import small_recipe, small_trainer
from training.datasets.dataset import Extent
from training.loop import dry_run
from training.recipe import Recipe

N = 16  # batch of the small recipes


def dcgan(*overrides: str) -> Recipe:
    """Generator 16 -> 16 x 7 x 7 -> 8 x 14 x 14 -> 1 x 28 x 28, discriminator the other way round, without norm."""
    return small_recipe("dcgan-mnist", "penalty.r1_gamma=0", "network.minibatch_discrimination=0", *overrides)


def layers_of(recipe: Recipe) -> dict[str, list[dry_run.Layer]]:
    trainer = dry_run._trainer(recipe, 1, 10)
    return {name: dry_run.layers(network, run, N) for name, network, run in dry_run._passes(trainer)}


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


def test_memory_of_a_dcgan_is_that_worked_out_by_hand():
    trainer = dry_run._trainer(dcgan(), 1, 10)
    generator, discriminator = 12544 + 32 + 2048 + 16 + 129, 136 + 2064 + 785
    buffers = 4 * 2 * (16 + 8) + 8 * 2  # running mean and variance, and how many batches there were
    memory = dry_run.memory_of_a_step(trainer)
    assert memory.weights == 4 * (generator + discriminator) + buffers
    assert memory.gradients == 4 * (generator + discriminator)
    assert memory.moments == 2 * memory.gradients
    assert memory.average == 4 * generator + buffers
    # The most is kept by the generator's update: of both networks each layer's input, which is the one before's output
    # after an activation in place; of batch norm its input besides; and what tanh gave.
    values = 16 + 2 * 16 * 49 + 2 * 8 * 196 + 784 + 8 * 196 + 16 * 49
    assert memory.activations == pytest.approx(4 * N * values, rel=0.01)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("mlp-mnist", []),
        ("dcgan-mnist", ["penalty.wgan_gp=10", 'network.discriminator_norm="spectral"']),
        ("dcgan-mnist", ["stabilizer.unrolled_steps=2", 'network.discriminator_norm="none"']),
        ("cgan-mnist", ["precision=bfloat16", "stabilizer.mode_seeking=1", "stabilizer.discriminators=2"]),
    ],
)
def test_what_a_step_keeps_is_what_a_real_step_keeps(name: str, overrides: list[str], cache: Path):
    trainer = small_trainer(name, cache, *overrides)
    resident = [t for network in (trainer.generator, trainer.discriminator) for t in network.state_dict().values()]
    kept = dry_run._Kept({dry_run.StorageWeakRef(tensor.untyped_storage()) for tensor in resident})
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack):
        trainer.step()
    described = dry_run.memory_of_a_step(dry_run._trainer(small_recipe(name, *overrides), 1, 10))
    assert described.activations == pytest.approx(kept.most, rel=0.01)  # unrolling, it has the weights once more


def test_a_step_that_is_only_described_trains_nothing():
    trainer = dry_run._trainer(dcgan(), 1, 10)
    before = {name: value.clone() for name, value in trainer.generator.named_parameters()}
    dry_run.memory_of_a_step(trainer)
    assert all(torch.equal(value, before[name]) for name, value in trainer.generator.named_parameters())


def test_more_pictures_a_batch_keep_more_and_weigh_the_same():
    one, two = (dry_run.memory_of_a_step(dry_run._trainer(dcgan(f"optimizer.batch={n}"), 1, 10)) for n in (N, 2 * N))
    assert two.activations == pytest.approx(2 * one.activations, rel=0.01)
    assert (two.weights, two.gradients, two.moments) == (one.weights, one.gradients, one.moments)


def test_a_growing_network_is_described_whole_and_its_early_layers_as_not_in_use():
    recipe = small_recipe("stylegan-lite-critters-grown")
    trainer = dry_run._trainer(recipe, 3, None)
    for _, network, run in dry_run._passes(trainer):
        layers = dry_run.layers(network, run, N)
        assert sum(layer.parameters for layer in layers) == sum(p.numel() for p in network.parameters())
        unused = {layer.name for layer in layers if layer.shape is None}
        assert unused and all("rgb.0" in name or "rgb.1" in name for name in unused)
        largest = max((layer.shape for layer in layers if layer.shape), key=lambda shape: math.prod(shape[1:]))
        assert largest[1:] == (16, 16)


def test_a_description_is_a_table_that_adds_up():
    text = dry_run.describe(dcgan(), Extent(60_000, 1, 10))
    generator, discriminator, memory = text.split("\n\n")[1:]
    assert generator.splitlines()[-1].split() == ["total", "14,769", f"{12544 + 100352 + 25088:,}"]
    assert discriminator.splitlines()[-1].split()[1] == "2,985"
    rows = {line[:34].strip(): float(line[34:].split()[0].replace(",", "")) for line in memory.splitlines()[1:]}
    assert rows["data: 60,000 pictures"] == pytest.approx(60_000 * 784 / 2**20, abs=0.06)
    assert rows.pop("total") == pytest.approx(sum(rows.values()), abs=0.3)
    widths = {len(line) for line in generator.splitlines()[1:]}
    assert len(widths) == 1  # columns stand under each other

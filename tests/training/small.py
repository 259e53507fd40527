"""Small runs on real data that travels with the tests: a few seconds each on a CPU."""

from pathlib import Path

import torch

from training import recipe
from training.datasets import loaders
from training.loop.trainer import Trainer
from training.recipe import Recipe

DATA = Path(__file__).parents[1] / "data"
COMMON = ["optimizer.batch=16", "precision=float32", "seed=5", "monitoring.snapshot_kimg=0.16"]
MNIST = [
    "network.base_channels=8",
    "network.latent_size=16",
    "optimizer.generator_lr=5e-3",  # ten steps are to show
    "optimizer.discriminator_lr=5e-3",
    "total_kimg=0.32",
]
OVERRIDES = {
    "mlp-mnist": ["network.hidden_size=32", *MNIST[1:]],
    "dcgan-mnist": MNIST,
    "cgan-mnist": MNIST,
    "stylegan-lite-critters-grown": [
        "data.resolution=16",
        "data.count=48",
        "network.channel_max=16",
        "network.w_size=16",
        "network.latent_size=16",
        "growing.start=8",
        "growing.stable_kimg=[0.08]",  # 5 steps at 8 px, 5 of fading in, 10 at 16 px
        "growing.fade_kimg=0.08",
        "total_kimg=0.32",
    ],
    "stylegan2-critters": [
        "data.resolution=16",
        "data.count=48",
        "network.channel_max=16",
        "network.w_size=16",
        "network.latent_size=16",
        "total_kimg=0.32",
    ],
    "stylegan2-lite-critters": [  # patches of 2 x 2 pixels, and a DCGAN's discriminator
        "data.resolution=64",
        "network.patch=2",
        "data.count=48",
        "network.channel_max=16",
        "network.w_size=16",
        "network.latent_size=16",
        "network.discriminator=dcgan",
        "network.discriminator_base_channels=8",
        "network.minibatch_discrimination=4",
        "total_kimg=0.32",
    ],
}


def small_recipe(name: str, *overrides: str) -> Recipe:
    return recipe.load(name, [*OVERRIDES[name], *COMMON, "optimizer.decay_kimg=0.16", *overrides])


def small_trainer(name: str, cache: Path, *overrides: str, device: str = "cpu") -> Trainer:
    """A run that has not begun; `cache` receives what is rendered."""
    chosen = small_recipe(name, *overrides)
    folder = DATA if chosen.data.name == "mnist" else cache
    dataset = loaders.load(chosen.data.name, folder, chosen.data.resolution, count=chosen.data.count)
    return Trainer(chosen, dataset, torch.device(device))

"""The ring of 8 Gaussians (Metz et al. 2017, section 3.1): its points, and what is measured of generated ones.

There the radius is 2 and the standard deviation 0.02; here all is 0.4 times that, so that it lies in [-1, 1].
"""

import functools
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.datasets.dataset import Dataset, Source
from training.evaluation.modes import modes_and_kl
from training.loop.trainer import Trainer

MODES = 8
RADIUS = 0.8
STD = 0.008
COUNT = 100_000  # points to train on

SAMPLES = 2500  # that are measured, as in Srivastava et al. 2017 (VEEGAN)
# High-quality samples that make a mode found; an even share is 312. One, as in VEEGAN, is what noise finds: of 2500
# samples uniform over [-1, 1]^2 about one lies within 3 standard deviations of each centre.
FOUND = 20
KEPT = 1000  # that are kept for the pictures


def centres() -> Tensor:
    """(8, 2)"""
    angles = torch.arange(MODES) * (2 * math.pi / MODES)
    return RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)


@functools.cache
def dataset(_: Path) -> Dataset:
    """Points of the ring as pictures, (N, 2, 1, 1) float32; the same ones always."""
    source = torch.Generator().manual_seed(0)
    modes = torch.randint(MODES, (COUNT,), generator=source)
    points = centres()[modes] + STD * torch.randn(COUNT, 2, generator=source)
    about = Source("ring of 8 Gaussians", "none needed", "Metz et al. 2017, section 3.1")
    return Dataset(points[:, :, None, None], None, None, about)


def measure(points: Tensor) -> dict[str, float]:
    """points (N, 2) -> modes found, share of high-quality samples, and how evenly the modes are hit.

    A sample is of high quality within 3 standard deviations of its nearest centre; a mode is found where FOUND of 2500
    samples, or that share of N, are of high quality and nearest to it; KL is that of all samples' nearest modes from
    even ones (Srivastava et al. 2017, section 4.1; Lin et al. 2018, section 4.1), in nats.
    """
    distance, nearest = torch.cdist(points, centres()).min(dim=1)
    good = distance < 3 * STD
    hits = torch.bincount(nearest[good], minlength=MODES)
    return {
        "modes": int((hits >= FOUND / SAMPLES * len(points)).sum()),
        "quality": good.float().mean().item(),
        "kl": modes_and_kl(nearest.numpy(), MODES)[1],
    }


@torch.no_grad()
def look(job: Trainer, _: Path, samples: int) -> tuple[dict[str, float], np.ndarray]:
    """Measures of the generator as it is, and of its average -> measures, points of the generator (n, 2)."""
    z = torch.randn(samples, job.recipe.network.latent_size, generator=torch.Generator().manual_seed(0))
    points = job.generator(z).flatten(1)
    averaged = measure(job.average(z).flatten(1))
    values = measure(points) | {f"average_{name}": value for name, value in averaged.items()}
    return values, points[:KEPT].numpy()

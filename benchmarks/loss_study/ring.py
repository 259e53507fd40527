"""Ring of 8 Gaussians (Metz et al. 2017, section 3.1): the dataset and its metrics.

In the paper the radius is 2 and the standard deviation is 0.02. Here both are multiplied by 0.4, so that the points are
in [-1, 1].
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
COUNT = 100_000  # training points

SAMPLES = 2500  # in each evaluation, as in Srivastava et al. 2017 (VEEGAN)
# A mode counts as found from this number of high-quality samples on; a uniform share is 312. VEEGAN needs one, but
# uniform noise reaches that too: of 2500 samples in [-1, 1]^2 about one is within 3 standard deviations of each centre.
FOUND = 20
KEPT = 1000  # samples saved for the plots


def centres() -> Tensor:
    """Return the centres of the modes, (8, 2)."""
    angles = torch.arange(MODES) * (2 * math.pi / MODES)
    return RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)


@functools.cache
def dataset(_: Path) -> Dataset:
    """Return the points of the ring as images, (N, 2, 1, 1) float32. They are the same on every call."""
    source = torch.Generator().manual_seed(0)
    modes = torch.randint(MODES, (COUNT,), generator=source)
    points = centres()[modes] + STD * torch.randn(COUNT, 2, generator=source)
    about = Source("ring of 8 Gaussians", "none needed", "Metz et al. 2017, section 3.1")
    return Dataset(points[:, :, None, None], None, None, about)


def measure(points: Tensor) -> dict[str, float]:
    """Return the modes found, the share of high-quality samples, and the KL divergence (nats) of points (N, 2).

    A sample is of high quality within 3 standard deviations of its nearest centre. A mode is found if FOUND of 2500
    samples, or that share of N, are of high quality and nearest to it. The KL divergence is between the distribution of
    all samples over their nearest modes and the uniform one (Srivastava et al. 2017, section 4.1; Lin et al. 2018,
    section 4.1).
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
def evaluate(job: Trainer, _: Path, samples: int) -> tuple[dict[str, float], np.ndarray]:
    """Return the metrics of the generator and of its moving average, and points of the generator (n, 2)."""
    z = torch.randn(samples, job.recipe.network.latent_size, generator=torch.Generator().manual_seed(0))
    points = job.generator(z).flatten(1)
    averaged = measure(job.average(z).flatten(1))
    values = measure(points) | {f"average_{name}": value for name, value in averaged.items()}
    return values, points[:KEPT].numpy()

"""Stacked MNIST (Metz et al. 2017, section 3.3.1): three digits are the channels of an image, so 1,000 modes."""

import functools
from pathlib import Path

import numpy as np
import torch

from training.datasets import loaders
from training.datasets.dataset import Dataset
from training.datasets.transforms import to_uint8
from training.evaluation import digit_classifier, modes
from training.loop.trainer import Trainer

MODES = 1000
DIGIT_CLASSIFIER = "mnist-judge.onnx"  # in the data folder
SAMPLES = 10_000  # 26,000 in Metz et al. On 10,000 real images the classifier finds 1,000 modes and a KL of 0.055
BATCH = 500
KEPT = 16  # images saved for the plots


@functools.cache
def dataset(folder: Path) -> Dataset:
    return loaders.load("stacked-mnist", folder, digit_classifier.SIZE)


@torch.no_grad()
def evaluate(job: Trainer, folder: Path, samples: int) -> tuple[dict[str, float], np.ndarray]:
    """Classify images of the moving average of the generator.

    Return the number of modes and the KL divergence (nats), and the first images (n, 28, 28, 3) uint8.
    """
    classify = modes.mode_classifier(folder / DIGIT_CLASSIFIER)
    source = torch.Generator().manual_seed(0)
    found_modes, kept = [], np.empty(0)
    for start in range(0, samples, BATCH):
        z = torch.randn(min(BATCH, samples - start), job.recipe.network.latent_size, generator=source)
        images = to_uint8(job.average(z)).permute(0, 2, 3, 1).numpy()
        kept = kept if start else images[:KEPT]
        found_modes.append(classify(images))
    found, kl = modes.modes_and_kl(np.concatenate(found_modes), MODES)
    return {"modes": found, "kl": kl}, kept

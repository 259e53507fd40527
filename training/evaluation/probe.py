"""FID while a run goes on: against the test pictures of its data set, with features that every run shares."""

from pathlib import Path

import numpy as np
import torch

from training.evaluation import inception, metrics
from training.recipe import Recipe


class FidProbe:
    """Pictures (N, H, W, C) uint8 -> FID against the first N test pictures of the recipe's data set.

    A small sample reads high, by about the same each time: for following one run, not for a card.
    """

    def __init__(self, recipe: Recipe, data_folder: Path, weights: Path | None, device: torch.device):
        n, name, resolution = recipe.monitoring.fid_pictures, recipe.data.name, recipe.data.resolution
        self.extract = inception.inception_extractor(weights, device)
        self.reference = inception.real_features(name, data_folder, resolution, n, self.extract)

    def __call__(self, pictures: np.ndarray) -> float:
        parts = [
            self.extract(pictures[start : start + inception.BATCH])
            for start in range(0, len(pictures), inception.BATCH)
        ]
        return metrics.fid(np.concatenate(parts), self.reference)

"""Frechet and kernel inception distance, of an exported model and while a run goes on."""

from pathlib import Path

import numpy as np
import torch

from training.evaluation import inception
from training.evaluation.evaluation import Evaluation
from training.evaluation.metric import Baseline, Metric, Value, compared, described, value
from training.recipe import Recipe

KID_SUBSETS = 100  # of a thousand images each, as torch-fidelity has it
KID_SUBSET_SIZE = 1000


def fid(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet inception distance (Heusel et al. 2017, eq. 6) of two sets of features (N, D) and (M, D)."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    one, other = (fid_features_to_statistics(torch.from_numpy(x.astype(np.float64))) for x in (a, b))
    return fid_statistics_to_metric(one, other, False)[KEY_METRIC_FID]


def kid(a: np.ndarray, b: np.ndarray, *, subsets: int, subset_size: int) -> float:
    """Kernel inception distance (Binkowski et al. 2018, section 4) of features (N, D) and (M, D).

    The unbiased squared maximum mean discrepancy under the kernel (x.y / D + 1)^3, averaged over `subsets` draws of
    `subset_size` rows from each set without replacement, the same draws at every call; it may be slightly negative.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    smaller = min(len(a), len(b))
    if not 2 <= subset_size <= smaller:
        raise ValueError(f"`subset_size` (={subset_size}) must be between 2 and {smaller}, as many as there are.")
    found = kid_features_to_metric(
        torch.from_numpy(a), torch.from_numpy(b), kid_subsets=subsets, kid_subset_size=subset_size, verbose=False
    )
    return found[KEY_METRIC_KID_MEAN]


def measure_fid(evaluation: Evaluation) -> list[Value]:
    return compared(evaluation, ["fid"], lambda a, b: [fid(a, b)])


def measure_fid_train(evaluation: Evaluation) -> list[Value]:
    """FID of as many images as the training set has, against all of it: the protocol of most papers."""
    known, n = evaluation.all_train_features, len(evaluation.train)
    extractor, size = evaluation.extractor, evaluation.resolution
    how = f"{extractor}, {n:,} pictures against all {n:,} of the training set, {size} px"
    baseline = None
    if evaluation.held_out:
        baseline = Baseline(fid(evaluation.test_features, known), described(evaluation.test))
    made = evaluation.features_of(evaluation.sampled, n)
    return [value("fid_train", fid(made, known), how, n, f"{evaluation.train.source.name} train, all", baseline)]


def measure_kid(evaluation: Evaluation) -> list[Value]:
    size = min(KID_SUBSET_SIZE, evaluation.count, len(evaluation.test))
    how = f"kernel (x.y / D + 1)^3, {KID_SUBSETS} subsets of {size:,}, "
    return compared(evaluation, ["kid"], lambda a, b: [kid(a, b, subsets=KID_SUBSETS, subset_size=size)], how)


FID = Metric("fid", measure_fid)
FID_TRAIN = Metric("fid_train", measure_fid_train, on_demand=True)  # five times the work of all the others
KID = Metric("kid", measure_kid)


class RunFid:
    """FID of images (N, H, W, C) uint8 against the first N test images of the recipe's dataset, while a run goes on.

    A small sample reads high, by about the same each time: for following one run, not for a card.
    """

    def __init__(self, recipe: Recipe, data_folder: Path, weights: Path | None, device: torch.device):
        n, name, resolution = recipe.monitoring.fid_pictures, recipe.data.name, recipe.data.resolution
        self.extract = inception.extractor(weights, device)
        self.reference = inception.real_features(name, data_folder, resolution, n, self.extract)

    def __call__(self, images: np.ndarray) -> float:
        starts = range(0, len(images), inception.BATCH)
        parts = [self.extract(images[start : start + inception.BATCH]) for start in starts]
        return fid(np.concatenate(parts), self.reference)

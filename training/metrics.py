"""Metrics: pure functions on features and predictions."""

from collections.abc import Sequence

import numpy as np
import torch


def fid(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet inception distance (Heusel et al. 2017, eq. 6) of two sets of features (N, D) and (M, D)."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    one, other = (fid_features_to_statistics(torch.from_numpy(x.astype(np.float64))) for x in (a, b))
    return fid_statistics_to_metric(one, other, False)[KEY_METRIC_FID]


def accuracy_by_class(predicted: np.ndarray, asked: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Share of pictures read as the class that was asked for; predicted and asked (N,) class indices."""
    return {name: float((predicted[asked == k] == k).mean()) for k, name in enumerate(classes)}


def smallest_class_share(predicted: np.ndarray, classes: int) -> float:
    """Share of the rarest class among the pictures, times the number of classes: 1 is even, 0 a class lost."""
    return float(np.bincount(predicted, minlength=classes).min() / len(predicted) * classes)

"""Improved precision and recall, and the realism score (Kynkaanniemi et al. 2019)."""

import numpy as np
import torch
from torch import Tensor

from training.evaluation import samples
from training.evaluation.distances import distance_rows, squared_radii
from training.evaluation.evaluation import Evaluation
from training.evaluation.metric import Metric, Value, compared

NEIGHBOURS = 3  # Kynkaanniemi et al. 2019, section 3.1
WORST = 20  # of the samples that are shown
WORST_FILE = "worst.png"


def precision_recall(fake: np.ndarray, real: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019, eqs. 1 and 2) of features (N, D) and (M, D).

    Precision is the share of `fake` that lies within the manifold of `real`: in a ball around one of its points that
    reaches to the `k`th nearest other point. Recall is the share of `real` within the manifold of `fake`.
    """
    a, b = torch.from_numpy(fake).double(), torch.from_numpy(real).double()
    if not 1 <= k < min(len(a), len(b)):
        raise ValueError(f"`k` (={k}) must be between 1 and {min(len(a), len(b)) - 1}: each set has other points.")
    return _share_within(a, b, k), _share_within(b, a, k)


def realism(fake: np.ndarray, real: np.ndarray, k: int = 3) -> np.ndarray:
    """Realism score (Kynkaanniemi et al. 2019, eq. 3) of each of `fake` (N, D) beside `real` (M, D) -> (N,).

    The greatest quotient of a real point's reach, to its `k`th nearest other one, and its distance: at least 1 within
    the manifold of `real`, small far from it. Of the real points the half that reaches farthest is left out, as there.
    """
    a, b = torch.from_numpy(fake).double(), torch.from_numpy(real).double()
    radii = squared_radii(b, k)
    kept = radii <= radii.median()
    tiny = torch.finfo(torch.float64).tiny  # a copy of a real point is as real as can be, and not a division by 0
    parts = [(radii[kept] / part.clamp(min=tiny)).max(dim=1).values for _, part in distance_rows(a, b[kept])]
    return torch.cat(parts).sqrt().numpy()


def _share_within(points: Tensor, manifold: Tensor, k: int) -> float:
    """Share of points (N, D) that lie in a ball around one of manifold (M, D), to its kth nearest other point."""
    radii = squared_radii(manifold, k)
    within = sum(int((part <= radii).any(dim=1).sum()) for _, part in distance_rows(points, manifold))
    return within / len(points)


def measure(evaluation: Evaluation) -> list[Value]:
    names, how = ["precision", "recall"], f"k = {NEIGHBOURS}, "
    return compared(evaluation, names, lambda a, b: precision_recall(a, b, NEIGHBOURS), how)


def measure_realism(evaluation: Evaluation) -> list[Value]:
    """The median realism, and the samples of the lowest, for the card to show."""
    (found,) = compared(
        evaluation,
        ["realism"],
        lambda a, b: [float(np.median(realism(a, b, NEIGHBOURS)))],
        f"median, k = {NEIGHBOURS}, 1 and above lies within the real pictures' manifold, ",
    )
    scores = realism(evaluation.sample_features, evaluation.test_features, NEIGHBOURS)
    worst = np.argsort(scores, kind="stable")[:WORST]
    shown = [samples.described(evaluation.model, int(i)) for i in worst]
    return [found | {"picture": WORST_FILE, "shown": shown}]


METRIC = Metric("precision_recall", measure)
REALISM = Metric("realism", measure_realism)

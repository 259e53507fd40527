"""1-nearest-neighbour accuracy: how well generated and real images are told apart by their nearest neighbours."""

import numpy as np
import torch

from training.evaluation.distances import distance_rows
from training.evaluation.evaluation import Evaluation
from training.evaluation.metric import Metric, Value, compared


def one_nearest_neighbour(a: np.ndarray, b: np.ndarray) -> float:
    """Leave-one-out accuracy of telling two sets apart by the nearest other point; features (N, D) and (N, D).

    The two-sample test of Lopez-Paz and Oquab (2017) with the classifier of Xu et al. (2018, section 2): 0.5 where the
    sets have one distribution, 1 where they lie apart, and below 0.5 where one set copies points of the other.
    """
    if len(a) != len(b):
        raise ValueError(f"the sets have {len(a)} and {len(b)} points; they must have as many: 0.5 is chance then.")
    points = torch.from_numpy(np.concatenate([a, b])).double()
    first = torch.arange(len(points)) < len(a)
    right = 0
    for start, distances in distance_rows(points, points):
        rows = torch.arange(len(distances))
        distances[rows, start + rows] = torch.inf
        right += int((first[distances.argmin(dim=1)] == first[start + rows]).sum())
    return right / len(points)


def measure(evaluation: Evaluation) -> list[Value]:
    n = min(evaluation.count, len(evaluation.test))
    how = f"leave-one-out among {n:,} of each, 50 % is chance, "
    return compared(evaluation, ["one_nearest_neighbour"], lambda a, b: [one_nearest_neighbour(a[:n], b[:n])], how)


METRIC = Metric("one_nearest_neighbour", measure)

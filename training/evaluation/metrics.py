"""Metrics: pure functions on features, pixels and predictions. Features are (N, D) arrays, a row a picture."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

ROWS = 512  # of a matrix of distances at a time: bounds its memory


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
    radii = _squared_radii(b, k)
    kept = radii <= radii.median()
    tiny = torch.finfo(torch.float64).tiny  # a copy of a real point is as real as can be, and not a division by 0
    parts = [(radii[kept] / part.clamp(min=tiny)).max(dim=1).values for _, part in _distance_rows(a, b[kept])]
    return torch.cat(parts).sqrt().numpy()


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
    for start, distances in _distance_rows(points, points):
        rows = torch.arange(len(distances))
        distances[rows, start + rows] = torch.inf
        right += int((first[distances.argmin(dim=1)] == first[start + rows]).sum())
    return right / len(points)


def nearest_neighbours(points: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `points` (N, D) the nearest of `references` (M, D) -> Euclidean distances (N,), indices (N,).

    Both of any numeric type, uint8 pixels included. The search is in float32; the distances of what it found are exact.
    """
    queries = torch.from_numpy(points).float()
    best = torch.full((len(points),), torch.inf)
    found = torch.zeros(len(points), dtype=torch.int64)
    for start in range(0, len(references), ROWS):
        part = torch.from_numpy(references[start : start + ROWS]).float()
        distances, indices = _squared_distances(queries, part).min(dim=1)
        nearer = distances < best
        best[nearer], found[nearer] = distances[nearer], start + indices[nearer]
    indices = found.numpy()
    return np.linalg.norm(points.astype(np.float64) - references[indices], axis=1), indices


def data_copying(sample_distances: np.ndarray, held_out_distances: np.ndarray) -> float:
    """Probability that a sample lies nearer to its nearest training picture than a held-out picture lies to its own.

    The statistic of Meehan et al. (2020, section 3), ties counted half: 0.5 where the samples keep the distance that
    new pictures have, 1 where all of them are copies. Distances (N,) and (M,).
    """
    order = np.sort(held_out_distances)
    above = len(order) - np.searchsorted(order, sample_distances, side="right")
    not_below = len(order) - np.searchsorted(order, sample_distances, side="left")
    return float((above + not_below).mean() / 2 / len(order))


def perceptual_path_length(starts: np.ndarray, ends: np.ndarray, epsilon: float) -> float:
    """Mean squared distance over a step of `epsilon` along a path, by epsilon^2 (Karras et al. 2019, eqs. 2 and 3).

    starts, ends (N, D): features at t and at t + epsilon of N paths of length 1. The least and the greatest hundredth
    are left out, as in the authors' code.
    """
    distances = ((starts.astype(np.float64) - ends) ** 2).sum(axis=1) / epsilon**2
    low = np.percentile(distances, 1, method="lower")
    high = np.percentile(distances, 99, method="higher")
    return float(distances[(low <= distances) & (distances <= high)].mean())


def inception_score(probabilities: np.ndarray) -> float:
    """exp of the mean KL divergence of p(y|x) from p(y) (Salimans et al. 2016, section 4), over all pictures at once.

    probabilities (N, K), rows that sum to 1 -> 1, where the class says nothing of the picture, to K.
    """
    p = torch.from_numpy(probabilities).double()
    marginal = p.mean(dim=0, keepdim=True)
    return float(torch.exp((torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(dim=1).mean()))


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T at which softmax(logits / T) makes the labels likeliest (Guo et al. 2017, section 4.2). (N, K), (N,).

    Sought between a thousandth of the logits' deviation and a thousand times it: of logits that put every label first
    the least is the likeliest.
    """
    x = torch.from_numpy(logits).double()
    right = x[torch.arange(len(x)), torch.from_numpy(labels)].mean()
    low, high = float(x.std()) / 1000, float(x.std()) * 1000
    for _ in range(60):
        middle = (low * high) ** 0.5
        expected = ((x / middle).softmax(dim=1) * x).sum(dim=1).mean()  # the likelihood's slope is `right` less this
        low, high = (middle, high) if expected > right else (low, middle)
    return low


def accuracy_by_class(predicted: np.ndarray, asked: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Share of pictures read as the class that was asked for, of each class that was; (N,) class indices both."""
    return {name: float((predicted[asked == k] == k).mean()) for k, name in enumerate(classes) if (asked == k).any()}


def confusion(predicted: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """How many pictures asked as class i were read as class j -> (K, K); predicted and asked (N,) class indices."""
    return np.bincount(asked * classes + predicted, minlength=classes**2).reshape(classes, classes)


def smallest_class_share(predicted: np.ndarray, classes: int) -> float:
    """Share of the rarest class among the pictures, times the number of classes: 1 is even, 0 a class lost."""
    return float(np.bincount(predicted, minlength=classes).min() / len(predicted) * classes)


def modes_and_kl(modes: np.ndarray, count: int) -> tuple[int, float]:
    """How many of `count` modes there are, and KL(their shares || uniform) in nats (Metz et al. 2017, section 3.3.1).

    modes (N,): the mode of each picture, 0 .. count-1. KL is 0 where all are equally frequent, log(count) where one is
    left; N pictures drawn evenly show about (count - 1) / 2N.
    """
    shares = np.bincount(modes, minlength=count) / len(modes)
    found = shares[shares > 0]
    return len(found), float((found * np.log(found * count)).sum())


def _share_within(points: Tensor, manifold: Tensor, k: int) -> float:
    """Share of points (N, D) that lie in a ball around one of manifold (M, D), to its kth nearest other point."""
    radii = _squared_radii(manifold, k)
    within = sum(int((part <= radii).any(dim=1).sum()) for _, part in _distance_rows(points, manifold))
    return within / len(points)


def _squared_radii(points: Tensor, k: int) -> Tensor:
    """Squared distance of each of points (N, D) to its kth nearest other one -> (N,)."""
    # The nearest of all is the point itself.
    return torch.cat([part.kthvalue(k + 1, dim=1).values for _, part in _distance_rows(points, points)])


def _distance_rows(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Squared distances of a (N, D) to b (M, D), ROWS rows at a time -> first row, (ROWS, M)."""
    for start in range(0, len(a), ROWS):
        yield start, _squared_distances(a[start : start + ROWS], b)


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """a (N, D), b (M, D) -> (N, M)."""
    # In place: |a|^2 + |b|^2 - 2 a.b is a fraction of a millisecond a row, a difference for each pair D times more.
    squares = (a @ b.T).mul_(-2).add_(a.square().sum(dim=1, keepdim=True)).add_(b.square().sum(dim=1))
    return squares.clamp_(min=0)

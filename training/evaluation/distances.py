"""Distances between rows of features, some rows at a time: pure functions of (N, D) tensors."""

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 512  # of a matrix of distances at a time: bounds its memory


def squared_radii(points: Tensor, k: int) -> Tensor:
    """Squared distance of each of points (N, D) to its kth nearest other one -> (N,)."""
    # The nearest of all is the point itself.
    return torch.cat([part.kthvalue(k + 1, dim=1).values for _, part in distance_rows(points, points)])


def distance_rows(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Squared distances of a (N, D) to b (M, D), ROWS rows at a time -> first row, (ROWS, M)."""
    for start in range(0, len(a), ROWS):
        yield start, squared_distances(a[start : start + ROWS], b)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """a (N, D), b (M, D) -> (N, M)."""
    # In place: |a|^2 + |b|^2 - 2 a.b is a fraction of a millisecond a row, a difference for each pair D times more.
    squares = (a @ b.T).mul_(-2).add_(a.square().sum(dim=1, keepdim=True)).add_(b.square().sum(dim=1))
    return squares.clamp_(min=0)

"""Precision, recall and realism have the values that can be computed by hand, and those of torch-fidelity."""

import numpy as np
import pytest
import torch

from draws import normal
from training.evaluation import distances, precision_recall


def test_realism_is_a_real_points_reach_by_the_distance_to_it():
    """Real points on a line at 0, 1, 3 and 13: to their nearest other one they reach 1, 1, 2 and 10.

    The half that reaches farthest, 3 and 13, is left out; what lies beside 13 is judged from 1.
    """
    real = np.array([[0.0], [1.0], [3.0], [13.0]])
    fake = np.array([[0.5], [-2.0], [12.0], [1.0]])
    found = precision_recall.realism(fake, real, k=1)
    assert found[:3] == pytest.approx([1 / 0.5, 1 / 2, 1 / 11])
    assert found[3] > 1e100 and np.isfinite(found[3])  # a copy of a real point


def test_precision_and_recall_of_equal_and_disjoint_sets():
    a = normal(50, 8, 0)
    assert precision_recall.precision_recall(a, a) == (1, 1)
    assert precision_recall.precision_recall(a, a + 1000) == (0, 0)


def test_a_lost_half_costs_recall_and_a_foreign_half_precision():
    clusters = normal(200, 4, 0) + np.repeat([0, 1000], 100)[:, None]
    whole, half = clusters, clusters[:100] + 0.01
    assert precision_recall.precision_recall(half, whole) == pytest.approx((1, 0.5), abs=0.02)
    assert precision_recall.precision_recall(whole, half) == pytest.approx((0.5, 1), abs=0.02)


def test_precision_and_recall_are_torch_fidelitys(
    monkeypatch: pytest.MonkeyPatch,
):
    from torch_fidelity.metric_prc import prc_features_to_metric

    monkeypatch.setattr(distances, "ROWS", 16)  # several blocks, the last of them not full
    fake, real = normal(70, 3, 0, mean=0.5), normal(90, 3, 1)

    def share_within(points: np.ndarray, manifold: np.ndarray) -> float:
        radii = [sorted(np.linalg.norm(manifold - center, axis=1))[3] for center in manifold]
        return float(np.mean([any(np.linalg.norm(manifold - point, axis=1) <= radii) for point in points]))

    found = precision_recall.precision_recall(fake, real, k=3)
    assert found == (share_within(fake, real), share_within(real, fake))
    assert 0 < found[0] < 1 and 0 < found[1] < 1
    theirs = prc_features_to_metric(torch.from_numpy(fake), torch.from_numpy(real), verbose=False)
    assert found == pytest.approx((theirs["precision"], theirs["recall"]))


def test_precision_asks_for_more_points_than_neighbours():
    with pytest.raises(ValueError, match=r"`k` \(=3\) must be between 1 and 2"):
        precision_recall.precision_recall(normal(3, 2, 0), normal(9, 2, 1), k=3)

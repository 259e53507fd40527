"""Metrics have the values that can be computed by hand."""

import numpy as np
import pytest

from training import metrics


def test_fid_of_two_gaussians_is_the_closed_form():
    """Means (0, 0) and (3, 4), deviations (1, 2) and (2, 1): 25 + (1 - 2)^2 + (2 - 1)^2."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((200_000, 2)) * [1, 2]
    b = rng.standard_normal((200_000, 2)) * [2, 1] + [3, 4]
    assert metrics.fid(a, b) == pytest.approx(27, rel=0.01)


def test_fid_of_a_set_with_itself_is_zero():
    a = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    assert metrics.fid(a, a) == pytest.approx(0, abs=1e-6)


def test_accuracy_is_counted_class_by_class():
    predicted, asked = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 1])
    assert metrics.accuracy_by_class(predicted, asked, ["a", "b"]) == {"a": 1.0, "b": 0.75}


def test_a_lost_class_has_share_zero_and_an_even_one_share_one():
    assert metrics.smallest_class_share(np.arange(100) % 10, 10) == 1.0
    assert metrics.smallest_class_share(np.arange(90) % 9, 10) == 0.0

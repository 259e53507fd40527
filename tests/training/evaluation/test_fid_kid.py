"""FID and KID have the values that can be computed by hand."""

import math

import numpy as np
import pytest

from draws import normal
from training.evaluation import fid_kid


def test_fid_of_two_gaussians_is_the_closed_form():
    """Means (0, 0) and (3, 4), deviations (1, 2) and (2, 1): 25 + (1 - 2)^2 + (2 - 1)^2."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((200_000, 2)) * [1, 2]
    b = rng.standard_normal((200_000, 2)) * [2, 1] + [3, 4]
    assert fid_kid.fid(a, b) == pytest.approx(27, rel=0.01)


def test_fid_of_a_set_with_itself_is_zero():
    a = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    assert fid_kid.fid(a, a) == pytest.approx(0, abs=1e-6)


def test_kid_of_two_gaussians_is_the_closed_form():
    """In one dimension (xy + 1)^3 compares three moments: (dm3)^2 + 3 (dm2)^2 + 3 (dm1)^2.

    N(0, 1) has moments 0, 1, 0 and N(1, 1) has 1, 2, 4.
    """
    a, b = normal(20_000, 1, 0), normal(20_000, 1, 1, mean=1.0)
    assert fid_kid.kid(a, b, subsets=60, subset_size=300) == pytest.approx(4**2 + 3 * 1**2 + 3 * 1**2, rel=0.05)


def test_kid_of_small_sets_is_unbiased():
    """Of one distribution it is zero on average; biased it would be 2 (E k(x, x) - E k(x, y)) / n = 1.95."""
    found = [
        fid_kid.kid(normal(10, 4, seed), normal(10, 4, 1000 + seed), subsets=1, subset_size=10) for seed in range(400)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(len(found)) < 0.2
    assert min(found) < 0 < max(found)


def test_kid_asks_for_subsets_that_the_sets_can_give():
    with pytest.raises(ValueError, match=r"`subset_size` \(=11\) must be between 2 and 10"):
        fid_kid.kid(normal(10, 2, 0), normal(20, 2, 1), subsets=1, subset_size=11)

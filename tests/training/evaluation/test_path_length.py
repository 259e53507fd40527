"""Path lengths have the values that can be computed by hand."""

import math

import numpy as np
import pytest

from training.evaluation import path_length


def test_path_length_of_a_line_is_its_length_squared():
    """From 0 to (3, 4) the whole path is 5 long."""
    t = np.random.default_rng(0).random((300, 1))
    for epsilon in (1e-4, 0.02, 0.5):
        found = path_length.perceptual_path_length(t * [3, 4], (t + epsilon) * [3, 4], epsilon)
        assert found == pytest.approx(25, rel=1e-6)


def test_path_length_of_a_circle_is_what_its_chords_make_of_it():
    """A quarter of the unit circle: chords of 2 sin(angle / 2), which tend to the arc as the step shrinks."""
    t = np.random.default_rng(0).random(300) * 0.9

    def circle(t: np.ndarray) -> np.ndarray:
        return np.stack([np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)], axis=1)

    found = path_length.perceptual_path_length(circle(t), circle(t + 0.1), 0.1)
    assert found == pytest.approx((2 * math.sin(0.1 * math.pi / 4) / 0.1) ** 2)
    found = path_length.perceptual_path_length(circle(t), circle(t + 1e-4), 1e-4)
    assert found == pytest.approx((math.pi / 2) ** 2, rel=1e-6)


def test_path_length_leaves_out_both_extreme_hundredths():
    ends = np.ones((1000, 1))
    ends[0], ends[1:4] = 1e6, 0
    assert path_length.perceptual_path_length(np.zeros((1000, 1)), ends, 1.0) == 1

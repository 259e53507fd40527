"""Copies of training images are told from new images."""

import math

import numpy as np
import pytest

from training.evaluation import data_copying


def test_nearest_neighbours_across_blocks_have_exact_distances(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(data_copying, "ROWS", 7)
    rng = np.random.default_rng(0)
    references = rng.integers(0, 256, (50, 784), dtype=np.uint8)
    points = references[[49, 3, 20]].copy()
    points[1, 0] ^= 1  # one level of one pixel away from its reference
    points[2, :2] = references[20, :2] ^ np.array([3, 4], np.uint8)
    distances, indices = data_copying.nearest_neighbours(points, references)
    assert indices.tolist() == [49, 3, 20]
    steps = points[2, :2].astype(int) - references[20, :2]
    assert distances.tolist() == [0, 1, math.hypot(*steps)]


def test_data_copying_is_half_for_new_images_one_for_copies():
    held_out = np.arange(1.0, 101)
    assert data_copying.data_copying(held_out, held_out) == 0.5  # ties count half
    assert data_copying.data_copying(np.zeros(10), held_out) == 1
    assert data_copying.data_copying(np.full(10, 1000.0), held_out) == 0
    assert data_copying.data_copying(np.array([0.0, 25.5]), held_out) == (1 + 0.75) / 2

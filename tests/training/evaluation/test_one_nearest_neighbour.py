"""1-nearest-neighbour accuracy is at chance where the sets have one distribution."""

import math

import pytest

from draws import normal
from training.evaluation import distances, one_nearest_neighbour


def test_one_nearest_neighbour_is_at_chance_on_one_distribution(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distances, "ROWS", 300)
    a, b = normal(1000, 2, 0), normal(1000, 2, 1)
    assert one_nearest_neighbour.one_nearest_neighbour(a, b) == pytest.approx(0.5, abs=3 * 0.5 / math.sqrt(2000))
    assert one_nearest_neighbour.one_nearest_neighbour(a, b + 100) == 1
    assert (
        one_nearest_neighbour.one_nearest_neighbour(a, a + 1e-6) == 0
    )  # each point's nearest is its copy in the other set


def test_one_nearest_neighbour_asks_for_sets_of_one_size():
    with pytest.raises(ValueError, match="the sets have 4 and 5 points"):
        one_nearest_neighbour.one_nearest_neighbour(normal(4, 2, 0), normal(5, 2, 1))

"""Modes are counted, and their KL divergence is the closed form."""

import math

import numpy as np
import pytest

from training.evaluation import modes


def test_modes_are_counted_and_their_kl_is_the_closed_form():
    assert modes.modes_and_kl(np.arange(3000) % 1000, 1000) == (1000, pytest.approx(0, abs=1e-12))
    assert modes.modes_and_kl(np.arange(3000) % 500, 1000) == (500, pytest.approx(math.log(2)))
    assert modes.modes_and_kl(np.full(10, 999), 1000) == (1, pytest.approx(math.log(1000)))
    three_to_one = modes.modes_and_kl(np.array([0, 0, 0, 1]), 2)
    assert three_to_one == (2, pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_even_draws_have_the_kl_of_their_number():
    _, kl = modes.modes_and_kl(np.random.default_rng(0).integers(0, 1000, 26_000), 1000)
    assert kl == pytest.approx(999 / 52_000, rel=0.2)

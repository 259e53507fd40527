"""What changes over a run changes when the recipe says."""

from dataclasses import replace

import pytest

from training import recipe
from training.loop.schedule import learning_rate_factor, phase_at
from training.networks.layers import Phase


def test_the_learning_rate_falls_to_zero_over_the_last_kimg():
    base = recipe.load("dcgan-mnist", ["total_kimg=100", "optimizer.decay_kimg=40"])
    assert [learning_rate_factor(base, kimg * 1000) for kimg in (0, 60, 80, 100)] == [1, 1, 0.5, 0]
    constant = replace(base, optimizer=replace(base.optimizer, decay_kimg=0.0))
    assert learning_rate_factor(constant, 100_000) == 1


@pytest.mark.parametrize(
    ("kimg", "phase"),
    [
        (0, Phase(1, 1.0)),  # 8 px
        (9.9, Phase(1, 1.0)),
        (10, Phase(2, 0.0)),  # 16 px begins to fade in
        (12, Phase(2, 0.5)),
        (14, Phase(2, 1.0)),
        (33.9, Phase(2, 1.0)),
        (34, Phase(3, 0.0)),  # 32 px
        (38, Phase(3, 1.0)),
        (500, Phase(3, 1.0)),
    ],
)
def test_a_growing_network_fades_in_each_resolution_and_then_trains_it(kimg: float, phase: Phase):
    growing = ["growing.start=8", "growing.stable_kimg=[10, 20]", "growing.fade_kimg=4"]
    assert phase_at(recipe.load("stylegan-lite-critters-grown", growing), int(kimg * 1000)) == phase
    assert phase.resolution == 4 * 2**phase.stage


def test_a_network_that_does_not_grow_has_no_phase():
    assert phase_at(recipe.load("dcgan-mnist"), 0) is None

"""What changes over a run changes when the recipe says."""

import pytest

from training import recipe
from training.errors import RecipeError
from training.loop.schedule import Schedule, input_noise_std, learning_rate_factor, moved, phase_at
from training.networks.layers import Phase
from training.recipe import Stabilizer


def test_the_learning_rate_decays_to_zero_over_the_last_kimg():
    assert [learning_rate_factor(Schedule(100, 40), kimg * 1000) for kimg in (0, 60, 80, 100)] == [1, 1, 0.5, 0]
    assert learning_rate_factor(Schedule(100, 0), 100_000) == 1


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
def test_a_growing_network_fades_in_then_trains_each_size(kimg: float, phase: Phase):
    growing = ["growing.start=8", "growing.stable_kimg=[10, 20]", "growing.fade_kimg=4"]
    assert phase_at(recipe.load("stylegan-lite-critters-grown", growing), int(kimg * 1000)) == phase
    assert phase.resolution == 4 * 2**phase.stage


def test_a_network_that_does_not_grow_has_no_phase():
    assert phase_at(recipe.load("dcgan-mnist"), 0) is None


def test_input_noise_decays_linearly_to_none_or_stays():
    falling = Stabilizer(input_noise=0.2, input_noise_kimg=40.0)
    found = [input_noise_std(falling, kimg * 1000) for kimg in (0, 10, 20, 40, 400)]
    assert found == pytest.approx([0.2, 0.15, 0.1, 0.0, 0.0])
    assert input_noise_std(Stabilizer(input_noise=0.2), 10**9) == 0.2
    assert input_noise_std(Stabilizer(), 0) == 0.0


@pytest.mark.parametrize(
    ("overrides", "kimg", "message"),
    [
        (["seed=3"], 10, "only `total_kimg` and `optimizer.decay_kimg` can change"),
        (["total_kimg=80", "optimizer.batch=32"], 10, "only `total_kimg` and `optimizer.decay_kimg` can change"),
        (["total_kimg=200"], 51, "is after 50, where its rates begin to decay"),
        (["total_kimg=60"], 20, "(=60) and `optimizer.decay_kimg` (=50) is after 10"),
        (["total_kimg=60", "optimizer.decay_kimg=0"], 50, None),
        (["total_kimg=60", "optimizer.decay_kimg=10"], 50, None),
        (["total_kimg=60", "optimizer.decay_kimg=10"], 50.1, "is after 50"),
        (["total_kimg=100"], 90, None),  # as it was
        (
            ["total_kimg=60", "optimizer.decay_kimg=0"],
            60.5,
            "`total_kimg` (=60) must be at least 60.5",
        ),
    ],
)
def test_the_end_of_a_run_can_move_until_its_rates_decay(overrides: list[str], kimg: float, message: str | None):
    begun = recipe.load("dcgan-mnist", ["total_kimg=100", "optimizer.decay_kimg=50"])
    now = Schedule.of(begun)
    if message is None:
        changed = moved(begun, now, overrides, kimg)
        whole = recipe.load("dcgan-mnist", ["total_kimg=100", "optimizer.decay_kimg=50", *overrides])
        assert changed == Schedule.of(whole) and changed.applied_to(begun) == whole
    else:
        with pytest.raises(RecipeError) as error:
            moved(begun, now, overrides, kimg)
        assert message in str(error.value)


def test_a_run_without_decay_resumes_behind_its_end():
    begun = recipe.load("dcgan-mnist", ["total_kimg=1", "optimizer.decay_kimg=0"])
    assert moved(begun, Schedule.of(begun), ["total_kimg=2"], kimg=1.024).total_kimg == 2  # 16 batches of 64


def test_an_end_that_has_moved_can_move_again():
    begun = recipe.load("dcgan-mnist", ["total_kimg=100", "optimizer.decay_kimg=50"])
    longer = moved(begun, Schedule.of(begun), ["total_kimg=200"], 10)
    assert longer == (200, 50) and moved(begun, longer, [], 190) == longer
    assert moved(begun, longer, ["total_kimg=300"], 120) == (300, 50)

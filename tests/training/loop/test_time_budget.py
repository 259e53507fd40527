"""A run that is given minutes ends about then, as the run that had its end from the start."""

import json
import time
from pathlib import Path

import pytest

from short_runs import differences, run_to_end
from small import small_recipe, small_trainer
from training.errors import RecipeError
from training.loop import checkpoint, loop
from training.loop.schedule import Schedule
from training.loop.time_budget import TimeBudget
from training.loop.trainer import Trainer
from training.monitoring.statistics import new_run
from training.recipe import Recipe


def recipe(total: float, decay: float, *overrides: str) -> Recipe:
    return small_recipe("dcgan-mnist", f"total_kimg={total}", f"optimizer.decay_kimg={decay}", *overrides)


def test_the_end_moves_with_the_speed_until_rates_decay():
    budget = TimeBudget(recipe(100, 25), 10)
    now = budget.end(Schedule(100, 25), 6, 60, 0.1)
    assert now == (60, 15)  # 54 more in the nine minutes that are left
    now = budget.end(now, 12, 120, 0.2)
    assert now == (74.4, 18.6)  # a third of the way to what would be 108
    now = budget.end(now, 50, 400, 0.1)
    assert now == pytest.approx((74.2, 18.55))
    assert budget.end(now, 55.6, 500, 9) != now
    assert budget.end(now, 55.7, 500, 9) == now  # they decay


def test_rates_do_not_decay_before_the_speed_is_known():
    budget = TimeBudget(recipe(1, 0.5), 10)
    assert budget.begin() == (1e6, 5e5)
    assert budget.end(budget.begin(), 5, 60, 0.1) == (59, 29.5)


def test_with_no_time_left_rates_begin_to_decay_at_once():
    assert TimeBudget(recipe(100, 25), 1).end(Schedule(100, 25), 30, 90, 1) == (40, 10)


def test_where_no_rates_decay_the_run_ends_with_the_time():
    assert TimeBudget(recipe(100, 0), 1).end(Schedule(100, 0), 30, 61, 1) == (30, 0)


def test_a_network_grows_to_the_end_of_it():
    growing = small_recipe("stylegan-lite-critters-grown", "optimizer.decay_kimg=0.08")
    assert growing.growing is not None
    found = TimeBudget(growing, 0.001).end(Schedule.of(growing), 0.08, 60, 1)
    assert found.total_kimg == growing.growing.whole_kimg


@pytest.mark.parametrize(
    ("decay", "minutes", "message"),
    [(50, 0, "`--minutes` (=0) must be above 0."), (100, 1, "must be less than `total_kimg` (=100)")],
)
def test_what_cannot_be(decay: float, minutes: float, message: str):
    with pytest.raises(RecipeError) as error:
        TimeBudget(recipe(100, decay), minutes)
    assert message in str(error.value)


def test_a_run_of_seconds_is_the_one_with_that_end(tmp_path: Path, cache: Path):
    long = ["total_kimg=1000", "optimizer.decay_kimg=500", "monitoring.snapshot_kimg=9"]
    job = small_trainer("dcgan-mnist", cache, *long)
    folder = new_run(tmp_path, job.recipe)
    began = time.perf_counter()
    loop.run(job, folder, tick_kimg=0.1, time_budget=TimeBudget(job.recipe, 2 / 60))
    assert time.perf_counter() - began < 60
    assert 1 < job.seconds < 10
    assert job.finished and job.kimg < 900

    options = json.loads((folder / "options.json").read_text())
    assert options["total_kimg"] == job.recipe.total_kimg == 1000  # the recipe is fixed
    assert options["schedule"] == job.schedule._asdict()
    assert job.schedule.decay_kimg == pytest.approx(job.schedule.total_kimg / 2, abs=0.001)
    chosen = job.schedule.applied_to(job.recipe)
    whole = Trainer(chosen, job.dataset, job.device)
    one, other = checkpoint.load(folder / "checkpoint.pt"), run_to_end(whole, new_run(tmp_path, chosen))
    for state in (one, other):
        for name in ("seconds", "collapse", "recipe"):
            state.pop(name)
    assert differences(one, other) == []


def test_a_run_whose_rates_are_kept_ends_where_its_time_is_over(tmp_path: Path, cache: Path):
    job = small_trainer("dcgan-mnist", cache, "total_kimg=1000", "optimizer.decay_kimg=0")
    loop.run(job, new_run(tmp_path, job.recipe), tick_kimg=0.1, time_budget=TimeBudget(job.recipe, 1e-6))
    assert job.kimg == job.schedule.total_kimg == 0.112  # the first line of statistics

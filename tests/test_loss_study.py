"""Loss study: metrics on known samples, settings as recipes, and a tiny study that is interrupted and resumed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.loss_study import losses, plots, ring, table
from benchmarks.loss_study.__main__ import main
from benchmarks.loss_study.settings import RING, STACKED, UNROLLED, Setting
from training.errors import TrainingError
from training.evaluation import modes

DATA = Path(__file__).with_name("data")


def samples_of(modes: list[int], each: int, offset: float = 0.0) -> torch.Tensor:
    """Return `each` points at the centre of every mode in `modes`, moved outwards by `offset` standard deviations."""
    centres = ring.centres()[modes]
    return (centres * (1 + offset * ring.STD / ring.RADIUS)).repeat(each, 1)


def test_the_ring_matches_metz_et_al_scaled_to_image_range():
    images = ring.dataset(Path()).images
    points = images.flatten(1)
    assert images.shape == (ring.COUNT, 2, 1, 1) and images.dtype == torch.float32 and points.abs().max() < 1
    assert abs(ring.STD / ring.RADIUS - 0.02 / 2) < 1e-9
    distance, nearest = torch.cdist(points, ring.centres()).min(dim=1)
    # two coordinates of standard deviation s: the squared distance has the mean 2 s^2
    assert distance.square().mean() == pytest.approx(2 * ring.STD**2, rel=0.02)
    assert torch.bincount(nearest).float().div(ring.COUNT).tolist() == pytest.approx([1 / 8] * 8, abs=0.005)


def test_real_points_have_the_metrics_of_a_gaussian():
    values = ring.measure(ring.dataset(Path()).images[:20_000].flatten(1))
    assert values["modes"] == 8
    assert values["quality"] == pytest.approx(1 - math.exp(-9 / 2), abs=0.003)  # within 3 deviations, in the plane
    assert values["kl"] < 0.001


def test_missing_modes_change_the_count_and_the_kl():
    values = ring.measure(samples_of([0, 3], 500))
    assert values == {"modes": 2, "quality": 1.0, "kl": pytest.approx(math.log(4))}


def test_a_mode_is_found_by_20_high_quality_samples_in_2500():
    rest = samples_of([0], 2500)
    assert ring.measure(torch.cat([rest[20:], samples_of([5], 20)]))["modes"] == 2
    assert ring.measure(torch.cat([rest[19:], samples_of([5], 19)]))["modes"] == 1


def test_beyond_3_deviations_quality_is_0_but_a_mode_is_nearest():
    assert ring.measure(samples_of(list(range(8)), 100, offset=2.9))["quality"] == 1
    assert ring.measure(samples_of(list(range(8)), 100, offset=3.1)) == {"modes": 0, "quality": 0, "kl": 0}


@pytest.mark.parametrize(
    ("task", "setting"),
    [(name, s) for name, task in losses.TASKS.items() for s in task.settings],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_setting_has_a_distinct_recipe(task: str, setting: Setting):
    chosen = losses.Run(task, setting, 7, quick=False).recipe
    assert chosen.seed == 7 and chosen.id == f"study-{task}"
    assert [s.name for s in losses.TASKS[task].settings].count(setting.name) == 1
    others = {losses.Run(task, s, 7, quick=False).recipe.sha256 for s in losses.TASKS[task].settings if s != setting}
    assert chosen.sha256 not in others


def test_the_study_covers_every_loss_and_all_unrolled_steps():
    from training.losses import LOSSES

    for task, settings in (("ring", RING), ("stacked", STACKED)):
        assert {losses.Run(task, s, 0, False).recipe.loss for s in settings} == set(LOSSES)
    chosen = [losses.Run("ring", s, 0, False).recipe for s in RING if s.name in UNROLLED]
    assert [r.stabilizer.unrolled_steps for r in chosen] == [0, 1, 5, 10]


def test_an_unknown_setting_is_rejected_with_the_known_ones():
    with pytest.raises(TrainingError, match=r"`--only` is 'hinges'.*hinge"):
        losses.runs(["ring"], 1, ["hinges"], quick=True)


def test_an_interrupted_study_resumes_and_repeats_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    planned = losses.runs(["ring"], 2, ["hinge", "r3gan"], quick=True)
    assert [(run.setting.name, run.seed) for run in planned] == [("hinge", 0), ("r3gan", 0), ("hinge", 1), ("r3gan", 1)]
    first = losses.study(tmp_path, DATA, planned[:3], jobs=1)
    lines = (tmp_path / losses.RESULTS).read_text()
    assert [json.loads(line)["setting"] for line in lines.splitlines()] == ["hinge", "r3gan", "hinge"]
    whole = losses.study(tmp_path, DATA, planned, jobs=1)
    assert whole[:3] == first and (tmp_path / losses.RESULTS).read_text().startswith(lines)
    assert "3 of 4 runs" in capsys.readouterr().out
    assert [look["kimg"] for look in whole[3]["looks"]] == [0.512, 1.024, 1.536, 2.048, 2.56]
    assert np.load(planned[3].samples(tmp_path)).shape == (5, losses.QUICK_SAMPLES, 2)


def test_the_same_seed_repeats_a_run(tmp_path: Path):
    (run,) = losses.runs(["ring"], 1, ["minibatch-stddev"], quick=True)
    one, other = (losses.study(tmp_path / name, DATA, [run], jobs=1)[0] for name in "ab")
    assert one["looks"] == other["looks"]


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one(tmp_path: Path):
    planned = losses.runs(["ring"], 1, ["hinge", "minimax"], quick=True)
    one, two = (losses.study(tmp_path / str(jobs), DATA, planned, jobs) for jobs in (1, 2))
    assert [r["looks"] for r in one] == [r["looks"] for r in two]


def test_a_run_that_diverges_is_recorded_as_such(tmp_path: Path):
    setting = Setting("wild", "wild", ("optimizer.generator_lr=1e20", "optimizer.discriminator_lr=1e20"))
    (result,) = losses.study(tmp_path, DATA, [losses.Run("ring", setting, 0, quick=True)], jobs=1)
    assert result["diverged"] and result["looks"] == []
    assert "| wild; 1 diverged |" in table.markdown("ring", [result], [setting])


def test_the_digit_classifier_finds_modes_of_stacked_mnist(tmp_path: Path):
    (run,) = losses.runs(["stacked"], 1, ["non-saturating"], quick=True)
    (result,) = losses.study(tmp_path, DATA, [run], jobs=1)
    images = np.load(run.samples(tmp_path))
    assert images.shape == (1, 16, 28, 28, 3) and images.dtype == np.uint8
    found = modes.mode_classifier(DATA / "mnist-judge.onnx")(images[0])
    (look,) = result["looks"]
    assert len(set(found.tolist())) <= look["modes"] <= losses.QUICK_SAMPLES
    # with m modes found, the KL is at least log(1000 / m) and at most log(1000), the KL of one mode
    assert math.log(1000 / look["modes"]) <= look["kl"] + 1e-9 <= math.log(1000) + 1e-9


def test_the_table_has_the_mean_and_the_range_over_seeds():
    looks = [
        {"modes": m, "quality": q, "kl": 0.5, "average_modes": 8, "average_quality": 0.9} for m, q in ((8, 1), (5, 0.5))
    ]
    results = [
        {"task": "ring", "setting": "hinge", "diverged": False, "seconds": 10.0, "looks": [look]} for look in looks
    ]
    (hinge,) = [s for s in RING if s.name == "hinge"]
    *_, row = table.markdown("ring", results, RING).splitlines()
    assert row == f"| hinge | `{hinge.overrides[0]}` | 6.5 (5.0 to 8.0) | 75 (50 to 100) | 0.500 | 8.0 | 90 | 10 |"


def test_every_plot_is_written(tmp_path: Path):
    points = {s.name: np.random.default_rng(0).normal(size=(5, 40, 2)) * 0.5 for s in RING}
    plots.ring_panels(points, RING, tmp_path / "ring.png")
    unrolled = [s for s in RING if s.name in UNROLLED]
    plots.ring_over_time(points, unrolled, tmp_path / "unrolling.png")
    results = [
        {"task": "stacked", "setting": s.name, "diverged": False, "looks": [{"modes": 9, "kl": 1}]} for s in STACKED
    ]
    plots.bars(results, STACKED, {"modes": "modes", "kl": "KL"}, tmp_path / "bars.png")
    images = {s.name: np.zeros((1, 16, 28, 28, 3), np.uint8) for s in STACKED}
    plots.image_panels(images, STACKED, tmp_path / "images.png")
    assert all((tmp_path / f"{name}.png").stat().st_size > 2000 for name in ("ring", "unrolling", "bars", "images"))


def test_the_command_trains_and_writes_a_table_with_its_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--quick", "--tasks", "ring", "--seeds", "1", "--out", str(tmp_path)]
    assert main([*options, "--only", "hinge"]) == 0
    assert "| hinge |" in (tmp_path / "table.md").read_text() and (tmp_path / "ring.png").is_file()
    assert main([*options, "--only", "fringe"]) == 1
    assert "error: `--only` is 'fringe'" in capsys.readouterr().err

"""A run that is stopped goes on as if it had not been, and one that breaks keeps what was good."""

import copy
import dataclasses
import functools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from short_runs import STABILIZERS, differences, run_to_end, stop_after
from small import OVERRIDES, small_recipe, small_trainer
from training import regularizers
from training.datasets.transforms import to_unit
from training.errors import DataError, TrainingDiverged
from training.loop import checkpoint, loop
from training.loop.schedule import moved
from training.loop.trainer import Trainer
from training.monitoring.statistics import new_run

FAMILIES = list(OVERRIDES)
Whole = Callable[..., tuple[dict[str, Any], set[str]]]


def comparable(state: dict[str, Any]) -> dict[str, Any]:
    """A state without what two equal runs may differ in: their time, and a commit between them."""
    return {key: value for key, value in state.items() if key not in ("seconds", "git_revision")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Whole:
    """`whole(name, *overrides)`: the last state of an unbroken run, trained once, and what it left unmoved."""

    @functools.cache
    def train(name: str, *overrides: str) -> tuple[dict[str, Any], set[str]]:
        job = small_trainer(name, cache, *overrides)
        before = copy.deepcopy(job.generator.state_dict())
        state = run_to_end(job, new_run(tmp_path_factory.mktemp("whole"), job.recipe))
        return comparable(state), {
            key for key, value in job.generator.named_parameters() if torch.equal(value, before[key])
        }

    return train


def stopped_and_resumed(name: str, overrides: tuple[str, ...], signum: int, tmp_path: Path, cache: Path):
    """The last state of a run that a signal stopped at its seventh step."""
    job = small_trainer(name, cache, *overrides)
    folder = new_run(tmp_path, job.recipe)
    stop_after(job, 7, signum)
    with pytest.raises(loop.Interrupted) as stop:
        loop.run(job, folder)
    assert stop.value.signum == signum

    recipe, state = checkpoint.read_run(folder / "checkpoint.pt")
    assert state["steps"] == 7
    assert recipe == job.recipe
    torch.manual_seed(999)  # whatever the new process did before
    resumed_job = small_trainer(name, cache, *overrides)
    checkpoint.restore(resumed_job, state)
    return comparable(run_to_end(resumed_job, folder))


@pytest.mark.parametrize(
    ("name", "signum"), [*((name, signal.SIGTERM) for name in FAMILIES), ("mlp-mnist", signal.SIGINT)]
)
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(
    name: str, signum: int, whole: Whole, tmp_path: Path, cache: Path
):
    expected, _ = whole(name)
    assert differences(expected, stopped_and_resumed(name, (), signum, tmp_path, cache)) == []
    assert expected["steps"] == 20


def test_an_end_moved_on_the_way_gives_the_same_run(whole: Whole, tmp_path: Path, cache: Path):
    expected, _ = whole("dcgan-mnist")  # its learning rates decay from 0.16 kimg on

    job = small_trainer("dcgan-mnist", cache, "total_kimg=1000", "optimizer.decay_kimg=0")
    folder = new_run(tmp_path, job.recipe)
    stop_after(job, 7, signal.SIGINT)
    with pytest.raises(loop.Interrupted):
        loop.run(job, folder)
    unchanged, state = checkpoint.read_run(folder / "checkpoint.pt")
    resumed_job = Trainer(unchanged, job.dataset, job.device)
    checkpoint.restore(resumed_job, state)
    end = moved(unchanged, job.schedule, ["total_kimg=0.32", "optimizer.decay_kimg=0.16"], job.kimg)
    resumed_job.move_end(end)
    resumed = comparable(run_to_end(resumed_job, folder))
    assert resumed.pop("recipe") != expected["recipe"], "it stays as it was begun"
    assert differences({key: value for key, value in expected.items() if key != "recipe"}, resumed) == []


@pytest.mark.parametrize("stabilizer", STABILIZERS)
def test_a_stabilizer_changes_what_is_learned_and_resumes(stabilizer: str, whole: Whole, tmp_path: Path, cache: Path):
    """It is part of the step, leaves the average finite, and a resumed run with it is the unbroken one."""
    name, *overrides = STABILIZERS[stabilizer]
    without, _ = whole(name)
    expected, _ = whole(name, *overrides)
    assert differences(without["average"], expected["average"])
    assert all(value.isfinite().all() for value in expected["average"].values())
    resumed = stopped_and_resumed(name, tuple(overrides), signal.SIGTERM, tmp_path, cache)
    assert differences(expected, resumed) == []


@pytest.mark.parametrize("loss", ["non_saturating", "hinge", "relativistic"])
def test_mismatched_labels_teach_the_discriminator_classes(loss: str, cache: Path):
    def margin(share: float) -> float:
        """How much surer D is of real images than of the same ones as the next class, after 60 steps."""
        overrides = f"loss={loss}", f"stabilizer.mismatched_labels={share}"
        job = small_trainer("cgan-mnist", cache, "total_kimg=2", *overrides)
        for _ in range(60):
            job.step()
        assert job.labels is not None and job.classes is not None
        images, labels = to_unit(job.images[:256]), job.labels[:256]
        with torch.no_grad():
            right, wrong = (job.discriminator(images, of).mean() for of in (labels, (labels + 1) % len(job.classes)))
        return (right - wrong).item()

    without, little, learned = margin(0), margin(0.1), margin(0.5)
    assert learned > max(0.1, 2 * without)
    assert without < little < learned


@pytest.mark.parametrize("unrolled", [0, 2])
def test_every_look_ahead_refuses_mismatched_pictures_too(unrolled: int, cache: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: list[int] = []

    def other_labels(labels: torch.Tensor, classes: int) -> torch.Tensor:
        drawn.append(len(labels))
        return (labels + 1) % classes

    monkeypatch.setattr(regularizers, "other_labels", other_labels)
    overrides = "stabilizer.mismatched_labels=0.5", f"stabilizer.unrolled_steps={unrolled}"
    job = small_trainer("cgan-mnist", cache, *overrides)
    job.step()
    assert drawn == [job.recipe.optimizer.batch] * (1 + unrolled)


def test_mismatched_labels_need_two_classes(cache: Path):
    job = small_trainer("cgan-mnist", cache)
    one = dataclasses.replace(job.dataset, labels=torch.zeros(len(job.dataset), dtype=torch.int64), classes=("0",))
    with pytest.raises(DataError, match=r"MNIST has one class, and `stabilizer.mismatched_labels` needs another"):
        Trainer(small_recipe("cgan-mnist", "stabilizer.mismatched_labels=0.5"), one, job.device)


@pytest.mark.parametrize("name", FAMILIES)
def test_training_moves_every_network(name: str, whole: Whole):
    _, unchanged = whole(name)
    recipe = small_recipe(name)
    last = recipe.data.resolution.bit_length() - 3
    used = range(1, last + 1) if recipe.growing else [last]  # the colours of 4 px, or of all that did not grow
    assert unchanged == {key for key in unchanged if "to_rgb" in key and int(key.split(".")[-2]) not in used}


def test_the_run_folder_holds_options_statistics_and_grids(tmp_path: Path, cache: Path):
    job = small_trainer("stylegan-lite-critters-grown", cache)
    folder = new_run(tmp_path / "runs", job.recipe)
    assert folder.name == "00000-stylegan-lite-critters-grown"
    assert new_run(tmp_path / "runs", job.recipe).name == "00001-stylegan-lite-critters-grown"
    run_to_end(job, folder)
    assert json.loads((folder / "options.json").read_text()) == json.loads(json.dumps(job.recipe.as_dict()))
    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert [line["kimg"] for line in lines] == [0.08, 0.16, 0.24, 0.32]
    assert [line["resolution"] for line in lines] == [16, 16, 16, 16]
    assert all(0 < line["real_probability"] < 1 and line["r1_penalty"] >= 0 for line in lines)
    assert sorted(path.stem for path in (folder / "samples").glob("*.png")) == ["000000.2", "000000.3"]
    last = checkpoint.load(folder / "snapshots" / "000000.3.pt")
    assert differences(last, checkpoint.snapshot(job)) == []


def test_a_run_resumes_on_another_device_with_new_draws(cache: Path):
    job = small_trainer("dcgan-mnist", cache)
    job.step()
    state = checkpoint.capture(job)
    assert checkpoint.restore(small_trainer("dcgan-mnist", cache), state)
    of_cuda = torch.zeros(16, dtype=torch.uint8)  # the form of such a generator's state
    moved = state | {"latent_source": of_cuda, "random": [state["random"][0] | {"cuda": of_cuda}]}
    runs = [small_trainer("dcgan-mnist", cache) for _ in range(2)]
    assert [checkpoint.restore(run, copy.deepcopy(moved)) for run in runs] == [False, False]
    assert (runs[0].steps, runs[0].images_seen) == (job.steps, job.images_seen)
    assert differences(runs[0].step(), runs[1].step()) == []
    assert not torch.equal(runs[0].latent_source.get_state(), job.latent_source.get_state())


def test_a_checkpoint_of_before_the_schedule_was_state_is_read(tmp_path: Path, cache: Path):
    job = small_trainer("mlp-mnist", cache)
    job.step()
    before = checkpoint.capture(job) | {"watch": {"counts": {"fid_rising": 2}, "best_fid": 9.0}}
    del before["schedule"]
    checkpoint.save(tmp_path / "checkpoint.pt", before)
    recipe, state = checkpoint.read_run(tmp_path / "checkpoint.pt")
    resumed = Trainer(recipe, job.dataset, job.device)
    assert checkpoint.restore(resumed, state)
    assert resumed.schedule == (recipe.total_kimg, recipe.optimizer.decay_kimg)
    assert state["collapse"]["best_fid"] == 9.0


def test_a_signal_makes_no_look_due(tmp_path: Path, cache: Path):
    """Looks cost time in which a cluster may lose its patience, and a run that was stopped often would have more."""
    measured: list[float] = []

    def fid(pictures: np.ndarray) -> float:
        measured.append(job.kimg)
        return 1.0

    job = small_trainer("dcgan-mnist", cache, "monitoring.fid_kimg=0.16")
    folder = new_run(tmp_path, job.recipe)
    stop_after(job, 7, signal.SIGTERM)
    with pytest.raises(loop.Interrupted):
        loop.run(job, folder, fid=fid)
    assert not measured
    assert not list((folder / "snapshots").iterdir())
    loop.run(job, folder, fid=fid)
    assert measured == [0.16, 0.32]
    assert sorted(path.name for path in (folder / "snapshots").iterdir()) == ["000000.2.pt", "000000.3.pt", "best.pt"]


def test_a_nan_loss_stops_the_run_and_keeps_the_good_checkpoint(tmp_path: Path, cache: Path):
    job = small_trainer("dcgan-mnist", cache)
    folder = new_run(tmp_path, job.recipe)
    stop_after(job, 5, signal.SIGTERM)
    with pytest.raises(loop.Interrupted):
        loop.run(job, folder)
    good = (folder / "checkpoint.pt").read_bytes()

    _, state = checkpoint.read_run(folder / "checkpoint.pt")
    broken = small_trainer("dcgan-mnist", cache)
    checkpoint.restore(broken, state)
    with torch.no_grad():
        broken.discriminator.layers[2].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(TrainingDiverged, match=r"discriminator loss is nan at 0\.\d kimg; first seen in .*layers"):
        loop.run(broken, folder, tick_kimg=0.016)
    assert (folder / "checkpoint.pt").read_bytes() == good


def test_a_slow_run_reports_and_saves_between_ticks_too(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop, "TICK_SECONDS", 0)  # as if every step took a minute
    job = small_trainer("dcgan-mnist", cache)
    folder = new_run(tmp_path, job.recipe)
    step = job.step
    job.step = lambda: step() if job.steps < 2 else 1 / 0  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ZeroDivisionError):
        loop.run(job, folder, checkpoint_seconds=0)
    lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert [line["kimg"] for line in lines] == [0.016, 0.032]
    assert checkpoint.read_run(folder / "checkpoint.pt")[1]["images_seen"] == 32


def test_sample_images_are_the_averages_and_draw_nothing(tmp_path: Path, cache: Path):
    job = small_trainer("stylegan-lite-critters-grown", cache)
    state = torch.get_rng_state()
    first, second = job.sample_images(64), job.sample_images(64)
    assert torch.equal(torch.get_rng_state(), state)
    assert (first == second).all() and first.shape == (64, 8, 8, 3)  # it begins at 8 px

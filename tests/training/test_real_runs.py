"""Runs on real disks: full, read-only, in use twice; stopped while data are read; resumed on data that changed."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from small import COMMON, DATA, OVERRIDES, small_recipe
from training.__main__ import main
from training.datasets import image_folder
from training.loop import checkpoint
from training.loop.trainer import Trainer
from training.monitoring.statistics import new_run

RECIPE = ["dcgan-mnist", *OVERRIDES["dcgan-mnist"], *COMMON, "optimizer.decay_kimg=0"]
TICKS = ["--tick-kimg", "0.016", "--checkpoint-seconds", "0"]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line of stderr."""
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error


def no_leftovers(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if ".partial" in path.name]


def begin(runs: Path, *overrides: str, data: Path = DATA) -> list[str]:
    return ["train", *RECIPE, *overrides, "--data", str(data), "--runs", str(runs), *TICKS]


@pytest.fixture
def disk() -> Iterator[None]:
    """Restores the limit of files' sizes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def fills_up(monkeypatch: pytest.MonkeyPatch, step: int, size: int) -> None:
    """From a step on no file can be longer than `size` bytes, as on a full disk."""
    whole_step = Trainer.step

    def limited(self: Trainer) -> dict[str, torch.Tensor]:
        if self.steps == step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return whole_step(self)

    monkeypatch.setattr(Trainer, "step", limited)


@pytest.mark.parametrize("size", [0, 2_000, 30_000, 100_000])  # of statistics, of a grid, of a snapshot, ...
def test_a_full_disk_leaves_the_last_checkpoint(
    size: int, disk: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    fills_up(monkeypatch, 12, size)
    assert main(begin(tmp_path, "monitoring.snapshot_kimg=0.048")) == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    error = said(capsys)
    assert str(tmp_path) in error and "make room. Then resume" in error and no_leftovers(tmp_path)
    run = tmp_path / "00000-dcgan-mnist"
    kept = checkpoint.load(run / "checkpoint.pt")
    assert kept["images_seen"] in (16 * 12, 16 * 13)
    monkeypatch.undo()
    assert main(["train", "--resume", str(run), *TICKS]) == 0


def test_a_disk_that_is_full_from_the_start_is_one_line(disk: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    assert main(begin(tmp_path)) == 1
    assert "options.json: File too large; make room." in said(capsys) and no_leftovers(tmp_path)


def test_rendered_data_on_a_full_disk_are_not_left_half(disk: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    assert main(["data", "critters", "--count", "2", "--data", str(tmp_path)]) == 1
    assert "critters-64-train-2.npy: File too large" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(["train", *RECIPE, "total_kimg=0.032", "--data", str(DATA), "--runs", str(runs), "--threads", "1"]) == 0
    return runs / "00000-dcgan-mnist"


READ_ONLY = 0o555


@pytest.mark.parametrize("option", ["--runs", "--models"])
@pytest.mark.parametrize("what", ["read-only", "below read-only", "a file", "below a file"])
def test_a_place_that_cannot_be_written_is_one_line(
    option: str,
    what: str,
    finished: Path,
    permissions_hold: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    place = tmp_path / "place"
    if "file" in what:
        place.touch()
    else:
        place.mkdir(mode=READ_ONLY)
    place = place / "deeper" if "below" in what else place
    if option == "--runs":
        monkeypatch.setattr("training.datasets.loaders.load", None)  # it is said before the data are read
        arguments = begin(place)
    else:
        monkeypatch.setattr("training.publish.export.generator_of", None)
        arguments = ["export", str(finished), "--models", str(place)]
    assert main(arguments) == 1
    error = said(capsys)
    assert str(tmp_path / "place") in error and ("a file is in the place" in error) == ("file" in what)


def test_a_run_that_is_read_only_is_not_resumed(
    finished: Path,
    permissions_hold: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "lock").unlink()
    for path in (run, *run.rglob("*")):
        path.chmod(READ_ONLY)
    monkeypatch.setattr("training.datasets.loaders.load", None)
    assert main(["train", "--resume", str(run), "total_kimg=1"]) == 1
    assert f"{run}/lock: Permission denied; give this user permission" in said(capsys)


def test_what_a_kill_left_half_written_goes_at_resume(finished: Path, tmp_path: Path):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "snapshots" / "000000.1.pt.partial").touch()
    assert main(["train", "--resume", str(run)]) == 0
    assert no_leftovers(run)


def test_runs_that_begin_at_once_have_a_folder_each(tmp_path: Path):
    chosen = small_recipe("dcgan-mnist")
    with ThreadPool(8) as pool:
        folders = pool.map(lambda _: new_run(tmp_path, chosen), range(40))
    assert len(set(folders)) == 40


def test_the_second_of_two_resumes_is_rejected(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    command = [sys.executable, "-m", "training", "train", "--resume", str(run), "total_kimg=1000"]
    with subprocess.Popen([*command, "--threads", "1", *TICKS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it trains
        assert main(["train", "--resume", str(run), "total_kimg=1000"]) == 1
        assert f"{run} is in use by process {process.pid}" in said(capsys)
        process.kill()
        process.communicate(timeout=60)
    assert main(["train", "--resume", str(run)]) == 0  # a lock ends with its process


def test_ctrl_c_while_images_are_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for i in range(40):
        Image.fromarray(np.full((28, 28), i, np.uint8)).save(tmp_path / f"{i}.png")

    def read(path: Path, resolution: int) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        return np.zeros((resolution, resolution, 3), np.uint8)

    monkeypatch.setattr(image_folder, "read", read)
    assert main(begin(tmp_path / "runs", "data.name=folder", data=tmp_path)) == 128 + signal.SIGINT
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("seconds", [0, 1.5])  # while its processes start, and later
def test_ctrl_c_while_images_are_rendered_is_one_line(seconds: float, tmp_path: Path):
    """A terminal sends it to all processes of the group."""
    command = [sys.executable, "-m", "training", "data", "critters", "--count", "20000", "--data", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    read = ""
    while "rendering critters" not in read:
        read += process.stderr.read(1)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGINT and not list(tmp_path.iterdir())
    assert rest.splitlines()[-1].strip() == "interrupted" and "Traceback" not in rest


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run on `images.npz`, beside it."""
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    assert main(begin(tmp_path, "data.name=npz", "total_kimg=0.016", data=tmp_path / "images.npz")) == 0
    return tmp_path / "00000-dcgan-mnist"


def test_resume_finds_the_data_again_and_says_where_not(
    begun: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path.parent)
    assert main(["train", "--resume", str(begun), "total_kimg=0.032"]) == 0
    data = (begun.parent / "images.npz").rename(begun.parent / "moved.npz")
    capsys.readouterr()
    assert main(["train", "--resume", str(begun), "total_kimg=0.048"]) == 1
    assert "images.npz, and are no longer there: give `--data`." in said(capsys)
    assert main(["train", "--resume", str(begun), "total_kimg=0.048", "--data", str(data)]) == 0
    assert checkpoint.load(begun / "checkpoint.pt")["data"] == str(data)
    assert "data" not in checkpoint.load(next(begun.glob("snapshots/*.pt")))  # it is published


@pytest.mark.parametrize("change", ["a pixel", "order", "labels"])
def test_other_images_of_the_same_shape_are_rejected(change: str, begun: Path, capsys: pytest.CaptureFixture[str]):
    path = begun.parent / "images.npz"
    images = np.load(path)["images"]
    if change == "a pixel":
        images[7, 7, 7] ^= 1
    elif change == "order":
        images = images[::-1]
    arrays = {"images": images} | ({"labels": np.arange(40) % 2} if change == "labels" else {})
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    capsys.readouterr()
    resume = ["train", "--resume", str(begun), "total_kimg=0.048"]
    assert main(resume) == 1
    error = said(capsys)
    assert "began with other data: its images' and labels' sha256 were" in error and "`--changed-data`" in error
    assert main([*resume, "--changed-data"]) == 0
    assert main(["train", "--resume", str(begun), "total_kimg=0.064"]) == 0  # they are the run's from here


def test_a_checkpoint_without_a_content_hash_is_accepted(begun: Path):
    path = begun / "checkpoint.pt"
    state = checkpoint.load(path)
    checkpoint.save(path, {name: state[name] for name in state if name not in ("content", "data")})
    resume = ["train", "--resume", str(begun), "total_kimg=0.032"]
    assert main([*resume, "--data", str(begun.parent / "images.npz")]) == 0


BAD = "\udce4"  # a byte that is no UTF-8, as Python has it


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        (f"pets{BAD}", ("a", "b"), "'pets\\udce4' is not a name in UTF-8"),
        ("pets", ("a", f"b{BAD}"), "'b\\udce4' is not a name in UTF-8"),
        ("pets", tuple(f"{i:03}{200 * 'x'}" for i in range(2600)), "model.json would have"),
    ],
    ids=["folder", "class", "too long"],
)
def test_names_that_no_model_can_have_end_a_run_before_it(
    name: str, classes: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for i, each in enumerate(classes):
        folder = tmp_path / name / each
        folder.mkdir(parents=True)
        Image.fromarray(np.full((28, 28), i % 256, np.uint8)).save(folder / "1.png")
    recipe = ["cgan-mnist", *OVERRIDES["cgan-mnist"], *COMMON, "optimizer.decay_kimg=0", "data.name=folder"]
    command = ["train", *recipe, "--data", str(tmp_path / name), "--runs", str(tmp_path / "runs")]
    assert main(command) == 1
    assert message in said(capsys) and not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("override", ["name=", f"name=a{BAD}", "network.latent_size=100000"])
def test_recipes_are_held_to_the_rules_of_a_model(override: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(begin(tmp_path, override)) == 1
    assert f"`{override.split('=')[0].split('.')[-1]}` (=" in said(capsys) and not list(tmp_path.iterdir())


def test_a_recipe_that_is_no_utf_8_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "x.toml").write_bytes(b'id = "\xff"')
    assert main(["train", str(tmp_path / "x.toml")]) == 1
    assert "x.toml: 'utf-8' codec" in said(capsys)


@pytest.mark.parametrize(("how", "code"), [("reject", 1), ("drop", 0), ("keep", 0)])
def test_an_unused_class_ends_a_conditional_run(
    how: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    labels = np.arange(1, 27).repeat(2).astype(np.uint8)
    np.savez(tmp_path / "x.npz", images=np.zeros((52, 28, 28), np.uint8), labels=labels)
    recipe = ["cgan-mnist", *OVERRIDES["cgan-mnist"], *COMMON, "optimizer.decay_kimg=0", "total_kimg=0.016"]
    options = ["data.name=npz", f"data.unused_classes={how}", "--data", str(tmp_path / "x.npz"), "--runs"]
    assert main(["train", *recipe, *options, str(tmp_path / "runs")]) == code
    if code:
        assert "has no image of class 0: data.unused_classes=drop leaves out" in said(capsys)
        return
    state = checkpoint.load(tmp_path / "runs" / "00000-cgan-mnist" / "checkpoint.pt")
    assert state["classes"] == [str(label) for label in range(how == "drop", 27)]

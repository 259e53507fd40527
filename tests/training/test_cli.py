"""`python -m training` says what it does, and what is wrong."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from small import COMMON, DATA, OVERRIDES
from training.__main__ import main
from training.loop import checkpoint

RECIPE = ["dcgan-mnist", *OVERRIDES["dcgan-mnist"], *COMMON, "optimizer.decay_kimg=0"]


def test_train_stop_resume_and_export_from_the_command_line(tmp_path: Path):
    """As a user does it: a process, Ctrl-C, the command that it names, and the export it names then."""
    command = [sys.executable, "-m", "training", "train"]
    options = ["--data", str(DATA), "--threads", "1", "--tick-kimg", "0.1"]
    folders = [*options, "--runs", str(tmp_path / "runs")]
    process = subprocess.Popen([*command, *RECIPE, "total_kimg=1000", *folders], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "00000-dcgan-mnist: DCGAN, MNIST digits, 256 images, CPU" in line or "CUDA" in line
    process.stdout.readline()  # the first tick
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    run = tmp_path / "runs" / "00000-dcgan-mnist"
    assert f"SIGINT: saved at {rest.split('saved at ')[1].split()[0]} kimg; resume with: " in rest
    named = rest.rstrip().split("resume with: ")[1]
    resume = f"python -m training train --resume {run} --data {DATA} --threads 1 --tick-kimg 0.1"
    assert named.removeprefix(".venv/bin/") == resume

    saved = (run / "checkpoint.pt").stat().st_mtime_ns
    process = subprocess.Popen([sys.executable, *shlex.split(named)[1:]], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    lines = (line for line in process.stdout if not line.startswith("ALARM"))  # so short a run shows no digit yet
    ticks = [float(line.split("/")[0]) for line, _ in zip(lines, range(10), strict=False)]
    assert ticks[0] > float(rest.split("saved at ")[1].split()[0])
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert (run / "checkpoint.pt").stat().st_mtime_ns > saved

    end = f"total_kimg={int(ticks[-1]) + 1}"  # it is long enough
    said = subprocess.run(
        [*command, "--resume", str(run), end, *options], stdout=subprocess.PIPE, text=True, check=True
    )
    assert f"finished at {int(ticks[-1]) + 1}.0 kimg" in said.stdout
    options = json.loads((run / "options.json").read_text())
    assert options["total_kimg"] == 1000 and options["schedule"]["total_kimg"] == int(ticks[-1]) + 1

    assert main(["export", str(run), "--models", str(tmp_path / "models")]) == 0
    assert (tmp_path / "models" / "dcgan-mnist" / "generator.onnx").is_file()


def test_a_dry_run_takes_no_data_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folders = ["--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]
    assert main(["train", "dcgan-cifar10", "--dry-run", *folders]) == 0
    said = capsys.readouterr().out
    assert "3 x 32 x 32, batch " in said and "data: 50,000 images" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_run_resumes_from_its_last_checkpoint(tmp_path: Path):
    command = [sys.executable, "-m", "training", "train"]
    options = ["--data", str(DATA), "--threads", "1", "--tick-kimg", "0.1", "--checkpoint-seconds", "0"]
    new = [*command, *RECIPE, "total_kimg=1000", *options, "--runs", str(tmp_path)]
    with subprocess.Popen(new, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not list(tmp_path.glob("*/checkpoint.pt")):
            assert process.stdout.readline()
        for _ in range(20):  # somewhere, perhaps within a write
            process.stdout.readline()
        process.kill()
    (run,) = tmp_path.iterdir()
    recorded = [json.loads(line)["kimg"] for line in (run / "stats.jsonl").read_text().splitlines(keepends=True)[:-1]]
    saved = checkpoint.load(run / "checkpoint.pt")["images_seen"] / 1000
    assert saved >= recorded[-1] - 0.2  # a tick is recorded, then saved; one of them may have been cut short

    with subprocess.Popen([*command, "--resume", str(run), *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert float(process.stdout.readline().split("/")[0]) == pytest.approx(saved + 0.1, abs=0.06)  # the next tick
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    kimgs = [json.loads(line)["kimg"] for line in (run / "stats.jsonl").read_text().splitlines()]
    assert kimgs == sorted(set(kimgs))  # nothing is told twice


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "or --resume RUN, one of the two"),
        (["train", "dcgan-mnist", "--resume", "x"], "one of the two"),
        (["train", "dcgan-mnits"], "no recipe 'dcgan-mnits'"),
        (["train", "dcgan-mnist", "optimizer.batch=0"], "`optimizer.batch` (=0) must be at least 2."),
        (["train", "dcgan-mnist", "--threads", "1", "optimizer.batch=0"], "`optimizer.batch` (=0) must be at least 2."),
        (["train", "dcgan-mnist", "data.resolution=14", "--data", str(DATA)], "`data.resolution` (=14) must be one of"),
        (["train", "--resume", "nowhere"], "nowhere holds no checkpoint.pt"),
        (["export", "nowhere"], "nowhere: no such run folder or snapshot"),
        (["card", "nowhere"], "nowhere: has no file `model.json`."),
        (["evaluate", "nowhere"], "nowhere: has no file `model.json`."),
        (["data", "imagenet"], "`data.name` (='imagenet') must be one of mnist, fashion-mnist"),
        (["train", "dcgan-mnist", "--device", "cuda:99"], "`--device` (=cuda:99)"),
        (["train", "dcgan-mnist", "--threads", "-1"], "`--threads` (=-1) must be at least 1."),
        (
            ["train", "dcgan-mnist", "total_kimg=50"],
            "`optimizer.decay_kimg` (=1000) must be at most `total_kimg`",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_1(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert error.count("\n") == 1


def test_help_needs_no_torch_and_no_second():
    began = time.perf_counter()
    code = "import sys; sys.modules['torch'] = None; from training.__main__ import main; main(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    commands = "train | series | report | export | import | evaluate | directions | card | data"
    assert done.returncode == 0 and commands in " ".join(done.stdout.split())
    assert time.perf_counter() - began < 10


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    for name, pictures in (("begun", images), ("fewer", images[:32]), ("colours", images[..., None].repeat(3, -1))):
        np.savez(tmp_path / f"{name}.npz", images=pictures)
    begin = ["train", *RECIPE, "data.name=npz", "total_kimg=0.016", "--runs", str(tmp_path / "runs")]
    assert main([*begin, "--data", str(tmp_path / "begun.npz")]) == 0
    resume = ["train", "--resume", str(tmp_path / "runs" / "00000-dcgan-mnist"), "--data"]
    for name, what in (("fewer", "images were 40, and here are 32"), ("colours", "channels were 1, and here are 3")):
        capsys.readouterr()
        assert main([*resume, str(tmp_path / f"{name}.npz")]) == 1
        assert f"error: the run began with other data: its {what}." in capsys.readouterr().err
    assert main([*resume, str(tmp_path / "begun.npz")]) == 0


def test_measuring_fid_draws_no_random_number_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Or a run that was stopped would go on with others than one that was not: only the first has them drawn twice."""
    states: list[dict[str, torch.Tensor]] = []
    for draws in (1, 7):

        class Probe:
            def __init__(self, *_: object):
                torch.rand(draws)  # noqa: B023

            def __call__(self, pictures: np.ndarray) -> float:
                return 1.0

        monkeypatch.setattr("training.evaluation.fid_kid.RunFid", Probe)
        folder = tmp_path / str(draws)
        command = ["train", *RECIPE, "network.dropout=0.5", "total_kimg=0.032", "monitoring.fid_kimg=0.016"]
        assert main([*command, "--data", str(DATA), "--runs", str(folder)]) == 0
        states.append(checkpoint.load(next(folder.iterdir()) / "checkpoint.pt")["discriminator"])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("content", [b"", b"PK", b"no checkpoint"])
def test_a_broken_checkpoint_is_named(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    for arguments in (["train", "--resume", str(tmp_path)], ["export", str(path)]):
        assert main(arguments) == 1
        assert f"error: {path} is no checkpoint" in capsys.readouterr().err
    torch.save({"weights": torch.zeros(1)}, path)
    assert main(["export", str(path)]) == 1
    assert f"error: {path} is no checkpoint of a run: it holds no recipe." in capsys.readouterr().err

"""Two processes are one run: the same gradients, one folder, one log, and no half checkpoint when one is killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from processes import children
from small import COMMON, DATA, OVERRIDES
from training.errors import RecipeError
from training.loop import checkpoint, distributed
from two_processes import steps_of

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{HERE}"}
TRAIN = [
    "train",
    "mlp-mnist",
    *OVERRIDES["mlp-mnist"],
    *COMMON,
    "--data",
    str(DATA),
    "--device",
    "cpu",
    "--threads",
    "1",
]


@pytest.mark.slow
def test_gradients_over_two_processes_are_those_of_one(tmp_path: Path):
    command = [*TORCHRUN, str(HERE / "two_processes.py"), str(tmp_path / "two.pt")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    steps_of(3, distributed.Processes(), tmp_path / "one.pt")
    one, two = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    assert one["images_seen"] == two["images_seen"] == 48
    for a, b in zip(one["steps"], two["steps"], strict=True):
        assert a["loss"].item() == pytest.approx(b["loss"].item(), rel=1e-5)
        assert a["gradients"].keys() == b["gradients"].keys()
        for name, gradient in a["gradients"].items():
            assert (gradient - b["gradients"][name]).norm() <= 1e-4 * gradient.norm(), name  # rounding alone


@pytest.mark.parametrize(
    "launcher", ["--devices", *(pytest.param(name, marks=pytest.mark.slow) for name in ("torchrun", "fabric run"))]
)
def test_a_run_of_two_processes_logs_once_and_ends(launcher: str, tmp_path: Path):
    if launcher == "--devices":
        command = [sys.executable, "-m", "training", *TRAIN, "--devices", "2"]
    elif launcher == "torchrun":
        command = [*TORCHRUN, "-m", "training", *TRAIN]
    else:
        fabric = str(Path(sys.executable).with_name("fabric"))
        command = [fabric, "run", "--accelerator=cpu", "--devices=2", str(ROOT / "training" / "__main__.py"), *TRAIN]
    done = subprocess.run(
        [*command, "--runs", str(tmp_path)], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished at 0.3 kimg") == 1
    (folder,) = tmp_path.iterdir()
    state = checkpoint.load(folder / "checkpoint.pt")
    assert state["images_seen"] == 320
    assert len(state["random"]) == 2
    assert "2 processes" in state["device"]
    assert [json.loads(line)["kimg"] for line in (folder / "stats.jsonl").read_text().splitlines()] == [0.16, 0.32]


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_resumes(tmp_path: Path):
    options = ["--runs", str(tmp_path), "--tick-kimg", "0.05", "--checkpoint-seconds", "0", "total_kimg=10000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *TRAIN, "--devices", "2", *options],
        env=ENVIRONMENT,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(8):
        process.stdout.readline()
    os.kill(min(children(process.pid)), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    (folder,) = tmp_path.iterdir()
    state = checkpoint.load(folder / "checkpoint.pt")
    assert state["images_seen"] > 0

    resumed = subprocess.Popen(  # by one process, where two were before
        [
            sys.executable,
            "-m",
            "training",
            "train",
            "--resume",
            str(folder),
            "--data",
            str(DATA),
            "--tick-kimg",
            "0.05",
        ],
        env=ENVIRONMENT,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert resumed.stdout is not None
    resumed.stdout.readline()
    assert resumed.stdout.readline().startswith(
        "on other devices than it was saved on: latents and noise are drawn anew"
    )
    assert float(resumed.stdout.readline().split("/")[0]) > state["images_seen"] / 1000 - 0.05  # a tick, rounded
    resumed.send_signal(signal.SIGINT)
    resumed.communicate(timeout=60)
    assert resumed.returncode == 128 + signal.SIGINT


def test_a_batch_that_cannot_be_shared_is_refused():
    processes = distributed.Processes()
    processes.count, processes.rank = 3, 1
    assert processes.share(12) == slice(4, 8)
    with pytest.raises(RecipeError, match=r"`optimizer.batch` \(=16\) must be a multiple of the 3 processes"):
        processes.share(16)

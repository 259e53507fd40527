"""`ganymede walk`: a video from a model repository, without a server."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from server import ROOT
from serving.__main__ import main
from serving.engine import generation
from serving.engine.latents import Address
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime

av = pytest.importorskip("av", reason="PyAV is not installed")


def decoded(path: Path) -> tuple[np.ndarray, Any]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]), stream.average_rate


@pytest.mark.parametrize("name", ["walk.mp4", "walk.webm"])
def test_a_walk_is_the_engines(repository_folder: Path, tmp_path: Path, name: str, capsys: Any):
    path, poster = tmp_path / name, tmp_path / "poster.png"
    words = ["walk", "tiny-style", "--models", str(repository_folder), "--keyframes", "7,8:2,9", "--frames", "150"]
    words += ["--fps", "30", "--scale", "4", "--space", "w", "--truncation", "0.7"]
    assert main([*words, "-o", str(path), "--poster", str(poster)]) == 0
    runtime = Runtime(load_model(repository_folder / "tiny-style"), threads=1)
    keyframes = [Address(7, 0), Address(8, 2), Address(9, 0)]
    plan = generation.interpolate(runtime, keyframes=keyframes, frames=150, space="w", truncation=0.7)
    truth = runtime.synthesize(plan.inputs).repeat(4, axis=1).repeat(4, axis=2)
    frames, rate = decoded(path)
    assert frames.shape == truth.shape and rate == 30
    assert (np.asarray(Image.open(poster)) == truth[0]).all()
    for k in (0, 75, 149):
        assert np.abs(frames[k].astype(int) - truth[k]).mean() < 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tiny-style", "--keyframes", "7,8", "-o", "walk.avi"], "walk.avi"),
        (["none", "--keyframes", "7,8", "-o", "walk.mp4"], "none"),
        (["tiny-dcgan", "--keyframes", "7,8", "--space", "w", "-o", "walk.mp4"], "space"),
        (["tiny-dcgan", "--keyframes", "7,8", "--edit", "sefa-0:1", "-o", "walk.mp4"], "edits"),
        (["tiny-dcgan", "--keyframes", "7,8", "-o", "none/walk.mp4"], "none/walk.mp4"),
        (["tiny-dcgan", "--keyframes", "7,8", "-o", "walk.mp4", "--poster", "poster.none"], "poster.none"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    repository_folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any, words: list[str], told: str
):
    monkeypatch.chdir(tmp_path)
    assert main(["walk", *words, "--models", str(repository_folder), "--frames", "3"]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ganymede:")]
    assert len(lines) == 1 and told in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keyframes", ["7", "7,x", "7,-1", ""])
def test_keyframes_are_checked(keyframes: str, capsys: Any):
    with pytest.raises(SystemExit) as error:
        main(["walk", "tiny-style", "--keyframes", keyframes, "-o", "walk.mp4"])
    assert error.value.code == 1 and "keyframes" in capsys.readouterr().err


@pytest.mark.slow
def test_memory_does_not_grow_with_the_frames(repository_folder: Path, tmp_path: Path):
    def peak(frames: int) -> int:
        """Greatest resident memory in KiB."""
        program = "import sys, resource; from serving.__main__ import main; code = main(sys.argv[1:]); "
        program += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
        words = ["walk", "tiny-dcgan", "--models", str(repository_folder), "--keyframes", "7,8", "--scale", "2"]
        words += ["--frames", str(frames), "-o", str(tmp_path / "walk.mp4")]
        done = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    assert peak(10_000) < peak(500) + 20_000

"""Edits along directions through the clients and bulk generation: the images of the engine."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server import ROOT, Server, serving
from serving.__main__ import main
from serving.client import InvalidRequestError
from serving.engine import generation
from serving.engine.directions import Edit
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from tiny_models import add_directions


@pytest.fixture(scope="module")
def models(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("edits") / "models"
    shutil.copytree(repository_folder, folder)
    add_directions(folder / "tiny-style")
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(models, models.parent / "log.txt") as server:
        yield server


@pytest.fixture(scope="module")
def truth(models: Path) -> np.ndarray:
    """Indices 0 to 5 of seed 7, edited."""
    runtime = Runtime(load_model(models / "tiny-style"), threads=1)
    edits = [Edit("up", 2), Edit("fine", -1.5, (4,))]
    return runtime.synthesize(generation.sample(runtime, seed=7, n=6, edits=edits).inputs)


EDITS: Any = [("up", 2), ("fine", -1.5, [4])]


def test_sample_and_stream_take_edits(client: Any, truth: np.ndarray):
    assert client.model("tiny-style").directions == ("up", "fine")
    assert client.model("tiny-dcgan").directions == ()
    assert (client.sample("tiny-style", seed=7, n=6, edits=EDITS).array == truth).all()
    pages = list(client.stream("tiny-style", seed=7, n=6, edits=EDITS, page=4).pages())
    assert (np.concatenate([page.array for page in pages]) == truth).all()


def test_interpolate_takes_edits_of_all_or_of_each(client: Any, truth: np.ndarray):
    walk: dict[str, Any] = {"keyframes": [(7, 0), (7, 1)], "frames": 2}
    assert (client.interpolate("tiny-style", **walk, edits=EDITS).array == truth[:2]).all()
    found = client.interpolate("tiny-style", **walk, edits=[[], EDITS]).array
    assert (found[1] == truth[1]).all() and (found[0] != truth[0]).any()


def test_an_unknown_direction_is_an_invalid_request(client: Any):
    with pytest.raises(InvalidRequestError):
        client.sample("tiny-style", edits=[("none", 1)])


WORDS = ["--edit", "up:2", "--edit", "fine:-1.5:4"]


def test_one_file_is_generated_with_edits(models: Path, tmp_path: Path, truth: np.ndarray):
    path = tmp_path / "images.npy"
    words = ["generate", "tiny-style", "--models", str(models), "-n", "6", "--seed", "7", "-o", str(path)]
    assert main([*words, *WORDS]) == 0
    assert (np.load(path) == truth).all()


@pytest.mark.parametrize("engine", ["local", "server"])
def test_a_dataset_is_generated_with_edits(
    models: Path, server: Server, tmp_path: Path, truth: np.ndarray, engine: str
):
    words = [
        sys.executable,
        "-m",
        "serving",
        "generate",
        "tiny-style",
        "--models",
        str(models),
        "-n",
        "6",
        "--seed",
        "7",
    ]
    words += ["--out", str(tmp_path), "--format", "npy", "--workers", "1", "--engine", engine]
    words += [server.url] if engine == "server" else []
    subprocess.run([*words, *WORDS], cwd=ROOT, check=True, capture_output=True)
    assert (np.load(next(tmp_path.glob("shard-*.npy"))) == truth).all()
    wrong = subprocess.run([*words, "--edit", "none:1"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert wrong.returncode == 1 and "none:1" in wrong.stderr

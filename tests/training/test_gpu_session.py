"""A session on a lent GPU, rehearsed on the CPU with a network of seconds."""

import json
from pathlib import Path

import pytest

from benchmarks import gpu
from serving.engine.repository import load_model
from small import OVERRIDES
from training import recipe

DATA = Path(__file__).parents[1] / "data"


def test_its_recipes_are_valid_and_use_all_of_the_time():
    for words in gpu.RECIPES:
        name, *overrides = words.split()
        recipe.load(name, overrides)
    assert sum(gpu.RECIPES.values()) == 1


@pytest.mark.slow
def test_a_model_is_there_before_its_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gpu, "EXPORT_SECONDS", 1.0)
    monkeypatch.setattr(gpu, "END_SECONDS", 4.0)
    words = " ".join(["dcgan-mnist", *OVERRIDES["dcgan-mnist"][:-1], "optimizer.batch=16"])
    options = ["--recipe", words, "--options=--threads 1 --tick-kimg 0.1", "--data", str(DATA), "--only-train"]
    assert gpu.main([str(tmp_path), "--minutes", "0.25", *options]) == 0
    parts = json.loads((tmp_path / "summary.json").read_text())
    names = [part["part"] for part in parts]
    assert names[0] == "export-dcgan-mnist" and names[-2:] == ["dcgan-mnist", "export-dcgan-mnist"]
    model = load_model(tmp_path / "models" / "dcgan-mnist")
    assert model.document["training"]["images_seen"] > 1000
    assert (model.folder / "samples.png").is_file()

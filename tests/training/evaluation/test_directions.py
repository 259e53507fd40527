"""Semantic directions: SeFa and GANSpace from the files alone, named ones from a classifier, the same each time."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from training.__main__ import main
from training.datasets import critters
from training.evaluation import directions
from training.publish import model_card

LAYERS, W = 6, 12


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directions, "W_SAMPLES", 400)
    monkeypatch.setattr(directions, "MEASURED", 60)
    monkeypatch.setattr(directions, "TRIED", 60)


@pytest.fixture
def folder(repository_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository_folder / "tiny-style", tmp_path / "tiny-style"))


@pytest.fixture
def runtime(folder: Path) -> Runtime:
    return Runtime(load_model(folder), threads=1)


def gemm_weights(folder: Path) -> list[np.ndarray]:
    """The weights (outputs, W) of the style projections of a tiny model, as its graph holds them, layer by layer."""
    graph = onnx.load(folder / "synthesis.onnx").graph
    known = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    return [known[node.input[1]].T for node in graph.node if node.op_type == "Gemm"]


def test_style_weights_are_those_of_the_graph(runtime: Runtime, folder: Path):
    found, truth = directions.style_weights(runtime), gemm_weights(folder)
    assert len(found) == len(truth) == LAYERS
    for each, right in zip(found, truth, strict=True):
        np.testing.assert_allclose(each, right, atol=1e-5)


@pytest.mark.parametrize(("group", "layers"), [("", range(6)), ("coarse-", [0, 1]), ("fine-", [4, 5])])
def test_sefa_is_the_eigenvector_of_the_weights(runtime: Runtime, folder: Path, group: str, layers: Any):
    rows = np.concatenate([gemm_weights(folder)[layer] for layer in layers]).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    truth = np.linalg.svd(rows)[2]
    found = {each.name: each for each in directions.sefa(runtime)}
    for k in (0, 1):
        direction = found[f"sefa-{group}{k}"]
        unit = direction.vector / np.linalg.norm(direction.vector)
        assert abs(unit @ truth[k]) > 0.999
        assert unit[np.abs(unit).argmax()] > 0
        assert direction.layers == tuple(layers)


def test_strength_1_is_one_standard_deviation_of_w(runtime: Runtime):
    w = directions.sample_w(runtime)
    for each in [*directions.sefa(runtime), *directions.ganspace(runtime)]:
        length = float(np.linalg.norm(each.vector))
        assert (w @ (each.vector / length)).std() == pytest.approx(length, rel=1e-3)


def test_ganspace_is_the_widest_axis_of_w(runtime: Runtime):
    w = directions.sample_w(runtime)
    lengths = [float(np.linalg.norm(each.vector)) for each in directions.ganspace(runtime)]
    assert lengths == sorted(lengths, reverse=True)
    widest = np.linalg.svd(w - w.mean(axis=0), full_matrices=False)[1][0] / np.sqrt(len(w))
    assert lengths[0] == pytest.approx(widest, rel=1e-3)


def test_logistic_regression_finds_the_plane():
    rng = np.random.default_rng(3)
    normal = np.array([1.0, -2.0, 0.5, 0.0])
    w = rng.standard_normal((4000, 4)) * [1.0, 0.5, 3.0, 2.0]
    has = rng.random(4000) < 1 / (1 + np.exp(-3 * (w @ normal) + 1))
    found = directions.logistic_regression(w, has)
    assert found @ normal / np.linalg.norm(found) / np.linalg.norm(normal) > 0.995


class Brightness:
    """Reads one attribute from how bright an image is, in place of the attribute classifier."""

    def __init__(self, threshold: float):
        self.threshold = threshold

    def __call__(self, images: np.ndarray) -> np.ndarray:
        values = np.zeros((len(images), len(critters.ATTRIBUTES)), np.int64)
        values[:, 0] = images.mean(axis=(1, 2, 3)) > self.threshold
        return values


def test_a_named_direction_gives_its_attribute(runtime: Runtime):
    w = np.repeat(directions.sample_w(runtime).astype(np.float32)[:, None], LAYERS, axis=1)
    threshold = float(np.median(runtime.synthesize({"w": w}).mean(axis=(1, 2, 3))))
    found = directions.named(runtime, Brightness(threshold))  # type: ignore[arg-type]
    bright = critters.attribute_values()["body"][1]
    assert {each.name for each in found} == {
        directions._slug("body", value) for value in critters.attribute_values()["body"][:2]
    }
    direction = next(each for each in found if each.details["value"] == bright)
    assert direction.layers == (0, 1) and direction.method == "attribute"
    assert set(direction.details["kept"]) == set(critters.ATTRIBUTES) - {"body"}
    assert set(direction.details["kept"].values()) == {1.0}
    moved = w[:60].copy()
    moved[:, :2] += 3 * direction.vector
    before, after = (runtime.synthesize({"w": each}).mean() for each in (w[:60], moved))
    assert after > before


def test_a_second_run_writes_the_same_files(folder: Path):
    directions.write(folder)
    first = {name: (folder / name).read_bytes() for name in ("directions.npz", "model.json")}
    directions.write(folder)
    assert first == {name: (folder / name).read_bytes() for name in first}
    model = load_model(folder)
    assert list(model.directions)[:2] == ["sefa-0", "sefa-1"] and "pca-0" in model.directions
    assert [each["name"] for each in model.document["directions"]] == list(model.directions)
    assert list(json.loads(first["model.json"])["files"]) == ["directions.npz", "mapping.onnx", "synthesis.onnx"]


def test_the_command_writes_directions_and_a_card(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["directions", str(folder)]) == 0
    assert "directions.npz" in capsys.readouterr().out
    assert "sefa-0" in (folder / "README.md").read_text() and (folder / "directions.png").is_file()


def test_a_card_tells_what_named_directions_reach(folder: Path):
    directions.write(folder)
    known = json.loads((folder / "model.json").read_text())
    kept = dict.fromkeys(list(critters.ATTRIBUTES)[1:], 0.9)
    known["directions"][0] |= {
        "method": "attribute", "attribute": "body", "moved": 0.85, "kept": kept, "strength": 3.0, "samples": 60,
    }  # fmt: skip
    known["directions"][1] |= known["directions"][0] | {"name": "sefa-1", "moved": 0.4}
    (folder / "model.json").write_text(json.dumps(known))
    text = model_card.render(folder)
    assert "1 of 2 move their attribute" in text and "| sefa-0 | 0 to 5 | 85% |" in text


def test_other_models_have_no_directions(repository_folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["directions", str(repository_folder / "tiny-dcgan")]) == 1
    assert "style models" in capsys.readouterr().err

"""Figures are measured on the exported files, kept as they come, and written where they are read."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from small import small_trainer
from training import data, evaluate, metrics, trainer
from training.export import export
from training.monitor import new_run

DATA = Path(__file__).parents[1] / "data"
JUDGE = DATA / "mnist-judge.onnx"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    job = small_trainer("cgan-mnist", cache)
    folder = new_run(tmp_path_factory.mktemp("runs"), job.recipe)
    trainer.run(job, folder)
    return export(folder, tmp_path_factory.mktemp("models"))


def test_the_judge_reads_real_digits():
    test = data.load("mnist", DATA, 28, "test")
    predicted = evaluate.digit_reader(JUDGE)(test.images.permute(0, 2, 3, 1).numpy())
    assert test.labels is not None and (predicted == test.labels.numpy()).mean() >= 63 / 64


def test_the_judge_asks_for_every_class_equally(model_folder: Path):
    accuracy, worst = evaluate.judge_metrics(Runtime(load_model(model_folder)), JUDGE, per_class=20)
    assert accuracy["samples"] == 200 and set(accuracy["by_class"]) == set("0123456789")
    assert accuracy["value"] == pytest.approx(np.mean(list(accuracy["by_class"].values())))
    assert worst["value"] == min(accuracy["by_class"].values())


def test_a_stopped_evaluation_goes_on_and_ends_with_the_same_features(tmp_path: Path):
    def pictures(start: int, n: int) -> np.ndarray:
        return np.arange(start, start + n, dtype=np.float32)

    def extract(failing_at: float) -> Callable[[np.ndarray], np.ndarray]:
        def features(batch: np.ndarray) -> np.ndarray:
            if batch[0] >= failing_at:
                raise KeyboardInterrupt
            seen.append(len(batch))
            return np.repeat(batch[:, None], 2048, axis=1)

        return features

    seen: list[int] = []
    path = tmp_path / "features.npy"
    with pytest.raises(KeyboardInterrupt):
        evaluate.features(pictures, 600, extract(400), path, "test")
    assert len(np.load(path)) == 250
    seen.clear()
    found = evaluate.features(pictures, 600, extract(np.inf), path, "test")
    assert sum(seen) == 350  # what was kept was not computed again
    np.testing.assert_array_equal(found[:, 0], np.arange(600))
    assert len(evaluate.features(pictures, 100, extract(0), path, "test")) == 100  # nor is a part of it


def test_figures_are_written_into_the_model_and_its_card(model_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """The whole of `evaluate` but for the Inception network, whose 96 MB do not travel with the tests."""
    projection = np.random.default_rng(0).standard_normal((784, 2048)).astype(np.float32)

    def extractor(*_: object) -> Callable[[np.ndarray], np.ndarray]:
        return lambda pictures: pictures.reshape(len(pictures), -1).astype(np.float32) / 255 @ projection

    monkeypatch.setattr(evaluate, "inception_extractor", extractor)
    monkeypatch.setattr(evaluate, "JUDGED_PER_CLASS", 10)
    before = load_model(model_folder)
    figures = evaluate.evaluate(model_folder, DATA, samples=60, reference=64, judge=JUDGE, device="cpu")
    after = load_model(model_folder)  # still a valid model ...
    assert after.sha256 == before.sha256  # ... with the same files
    document = json.loads((model_folder / "model.json").read_text())
    assert document["metrics"] == figures
    fid = next(figure for figure in figures if figure["name"] == "fid")
    a = extractor()(evaluate.generate(Runtime(after), 0, 60)[0])
    b = extractor()(data.load("mnist", DATA, 28, "test").images.permute(0, 2, 3, 1).numpy())
    assert fid["value"] == pytest.approx(metrics.fid(a, b), rel=1e-6)
    assert "60 pictures against 64 of the test set" in fid["protocol"]
    assert f"| FID | {fid['value']:.2f} |" in (model_folder / "README.md").read_text()

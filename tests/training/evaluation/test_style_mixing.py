"""Style mixing is measured by what a reader sees, and truncation by the features of what it leaves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.engine import generation
from serving.engine.latents import address_range
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from training.datasets import critters
from training.evaluation import attribute_classifier, inception, samples, style_mixing, truncation
from training.evaluation.evaluation import Evaluation
from training.evaluation.fid_kid import fid
from training.evaluation.precision_recall import precision_recall


@pytest.fixture
def subject(repository_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    """A style model of critters, 40 samples against 60 images, and the pixels' means for features."""
    monkeypatch.setattr(inception, "SIZE", 12)
    monkeypatch.setattr(inception, "extractor", lambda *_: means)
    runtime = Runtime(load_model(repository_folder / "tiny-style"), threads=1)
    runtime.model.document["training"]["recipe"] = {"data": {"name": "critters", "resolution": 16, "count": 80}}
    return Evaluation(runtime, tmp_path, count=40, reference=60, inception_weights=None, device="cpu")


def means(pictures: np.ndarray) -> np.ndarray:
    """(N, 16, 16, 3) -> of each quarter and channel (N, 12)."""
    return pictures.reshape(-1, 2, 8, 2, 8, 3).mean(axis=(2, 4)).reshape(-1, 12).astype(np.float32)


@pytest.mark.parametrize("group", samples.STYLES)
def test_what_is_mixed_is_what_the_server_mixes(subject: Evaluation, group: samples.Styles):
    runtime = subject.runtime
    found = samples.mixed(runtime, 2, 3, group)
    rows, columns = (address_range(seed, 2, 3) for seed in (samples.SEED, samples.COLUMN_SEED))
    grid = runtime.synthesize(generation.style_mix(runtime, rows=rows, columns=columns, styles=group).inputs)
    np.testing.assert_array_equal(found, grid[[0, 4, 8]])  # the diagonal: each row with its own column


def test_without_a_group_the_three_take_turns(subject: Evaluation):
    found = samples.mixed(subject.runtime, 4, 5)
    for k, number in enumerate(range(4, 9)):
        expected = samples.mixed(subject.runtime, number, 1, samples.STYLES[number % 3])
        np.testing.assert_array_equal(found[k : k + 1], expected)


def test_a_share_is_of_the_pairs_that_differ():
    n = len(critters.ATTRIBUTES)
    rows, columns, mixes = (np.zeros((4, n), int) for _ in range(3))
    columns[:, 0] = [1, 1, 1, 0]  # body: three pairs differ; the mixes are a row's, two columns' and something else's
    mixes[:, 0] = [0, 1, 5, 7]
    table = style_mixing.follows(rows, columns, mixes)
    assert table["body"] == {"row": pytest.approx(1 / 3), "column": pytest.approx(1 / 3), "pairs": 3}
    assert table["top"] == {"row": 0, "column": 0, "pairs": 0}


class Oracle:
    """Reads a mix of the tiny model by comparing it with what the engine gives for each of its sources."""

    accuracy = dict.fromkeys(critters.ATTRIBUTES, 0.9)
    confidence = dict.fromkeys(critters.ATTRIBUTES, 0.8)

    def __init__(self, taken: dict[str, str]):
        self.taken = taken

    def mean_confidence(self, pictures: np.ndarray) -> dict[str, float]:
        assert (pictures == 0).all()  # of the rows
        return dict.fromkeys(critters.ATTRIBUTES, 0.5)

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        side = {"row": 0, "column": 1}
        kind = int(pictures[0, 0, 0, 0])  # 0: rows, 1: columns, 2: mixes
        values = [kind if kind < 2 else side[self.taken[name]] for name in critters.ATTRIBUTES]
        return np.tile(values, (len(pictures), 1))


def test_an_attribute_counts_for_the_side_it_should_come_from(subject: Evaluation, monkeypatch: pytest.MonkeyPatch):
    """A model whose mixes all take their body from the column and everything else from the row."""
    taken = dict.fromkeys(critters.ATTRIBUTES, "row") | {"body": "column"}

    def marked(kind: int) -> np.ndarray:
        return np.full((10, 16, 16, 3), kind, np.uint8)

    monkeypatch.setattr(style_mixing, "PAIRS", 10)
    monkeypatch.setattr(attribute_classifier, "load", lambda *_: Oracle(taken))
    monkeypatch.setattr(samples, "generate", lambda r, start, n, seed: (marked(int(seed == samples.COLUMN_SEED)), None))
    monkeypatch.setattr(samples, "mixed", lambda *_: marked(2))
    coarse, middle, fine = style_mixing.measure(subject)
    assert coarse["value"] == pytest.approx(6 / 7)  # all but the top, which should be the column's
    assert middle["value"] == pytest.approx(
        3 / 7
    )  # top and both colours; not body, and eyes, mouth, pattern not either
    assert fine["value"] == pytest.approx(4 / 7)
    assert coarse["floor"] == pytest.approx(0.9)
    assert (coarse["reader_confidence"]["eyes"], coarse["confidence"]["eyes"]) == (0.8, 0.5)
    assert coarse["by_attribute"]["body"] == {"row": 0, "column": 1, "pairs": 10}


def test_fid_of_mixes_and_truncation_are_of_those_images(subject: Evaluation):
    test, train = subject.test_features, subject.train_features
    (mixed,) = style_mixing.measure_fid(subject)
    runtime = subject.runtime
    assert mixed["value"] == pytest.approx(fid(means(samples.mixed(runtime, 0, 40)), test), rel=1e-5)
    assert mixed["floor"] == pytest.approx(fid(train, test), rel=1e-5)

    (found,) = truncation.measure(subject)
    rows: list[dict[str, Any]] = found["by_psi"]
    assert [row["psi"] for row in rows] == [0.4, 0.6, 0.8, 1.0]
    for row in rows:
        made = means(samples.truncated(runtime, row["psi"], 0, 40))
        assert row["fid"] == pytest.approx(fid(made, test), rel=1e-5)
        assert (row["precision"], row["recall"]) == precision_recall(made, test)
    assert found["value"] == min(rows, key=lambda row: row["fid"])["psi"]
    np.testing.assert_array_equal(samples.truncated(runtime, 1.0, 0, 4), samples.generate(runtime, 0, 4)[0])


def test_mixing_is_for_style_models(repository_folder: Path):
    runtime = Runtime(load_model(repository_folder / "tiny-dcgan"), threads=1)
    with pytest.raises(ValueError, match="tiny-dcgan: mixing is for style models"):
        samples.mixed(runtime, 0, 2)

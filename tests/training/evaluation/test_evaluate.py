"""Figures are measured on the exported files, and written where they are read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_models
from memorisers import memoriser
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from training.datasets import loaders
from training.errors import DataError, TrainingError
from training.evaluation import digit_classifier, inception, path_length, samples
from training.evaluation.evaluate import PARTIAL, evaluate
from training.evaluation.evaluation import Evaluation
from training.evaluation.fid_kid import fid, kid
from training.evaluation.inception import Extract
from training.evaluation.one_nearest_neighbour import one_nearest_neighbour
from training.evaluation.precision_recall import precision_recall, realism
from training.publish import model_card

DATA = Path(__file__).parents[2] / "data"
JUDGE = DATA / "mnist-judge.onnx"
FEATURES = 16


@pytest.fixture(autouse=True)
def projections_for_inception(monkeypatch: pytest.MonkeyPatch) -> Extract:
    """Random projections of the pixels: the weights of Inception, 96 MB, do not travel with the tests."""

    def extract(pictures: np.ndarray) -> np.ndarray:
        rows = pictures.reshape(len(pictures), -1).astype(np.float32) / 255
        return rows @ np.random.default_rng(0).standard_normal((rows.shape[1], FEATURES)).astype(np.float32)

    monkeypatch.setattr(inception, "SIZE", FEATURES)
    monkeypatch.setattr(inception, "extractor", lambda *_: extract)
    monkeypatch.setattr(digit_classifier, "PER_CLASS", 10)
    return extract


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """The digits that travel with the tests, in a folder that may be written to."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "MNIST").symlink_to(DATA / "MNIST")
    return tmp_path / "data"


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A model that knows the first 60 training images by heart, and makes nothing else."""
    train = loaders.load("mnist", DATA, 28, count=60)
    return memoriser(tmp_path / "memoriser", train.images.numpy(), "mnist").model.folder


def by_name(figures: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {figure["name"]: figure for figure in figures}


def test_every_metric_has_its_protocol_in_model_and_card(model_folder: Path, data_folder: Path):
    before = load_model(model_folder)
    figures = evaluate(model_folder, data_folder, samples=60, reference=64, classifier=JUDGE, device="cpu")
    after = load_model(model_folder)  # still a valid model ...
    assert after.sha256 == before.sha256  # ... with the same files
    assert after.document["metrics"] == figures
    assert json.loads(json.dumps(figures)) == figures
    assert [figure["name"] for figure in figures] == [
        "smallest_class_share", "inception_score", "fid", "kid", "precision", "recall", "realism",
        "one_nearest_neighbour", "ppl_z", "data_copying_pixels", "data_copying_features",
    ]  # fmt: skip
    written = (model_folder / "README.md").read_text()
    assert written == model_card.render(model_folder)
    for figure in figures:
        assert figure["protocol"] and figure["samples"] > 0 and figure["reference"]
        assert ("floor" in figure) == ("floor_protocol" in figure) == (figure["name"] != "ppl_z")
        title, samples = model_card.TITLES[figure["name"]], f"{figure['samples']:,}"
        row = f"| {title} | {model_card.shown(figure)} | {model_card.shown(figure, 'floor')} | {samples} | "
        assert row in written
        note = written.partition(row)[2].split(" ")[0]
        assert f"\n{note}. {figure['protocol']}\n" in written


def test_metrics_are_the_models_and_baselines_the_data_sets(
    model_folder: Path, data_folder: Path, projections_for_inception: Extract
):
    found = by_name(evaluate(model_folder, data_folder, samples=60, reference=64, device="cpu"))
    pictures, _ = samples.generate(Runtime(load_model(model_folder)), 0, 60)
    made = projections_for_inception(pictures)
    train, test = (
        projections_for_inception(loaders.load("mnist", DATA, 28, split).images.permute(0, 2, 3, 1).numpy())
        for split in ("train", "test")
    )
    for name, x in (("value", made), ("floor", train[:60])):
        assert found["fid"][name] == pytest.approx(fid(x, test), rel=1e-6)
        assert found["kid"][name] == pytest.approx(kid(x, test, subsets=100, subset_size=60), rel=1e-3)
        assert (found["precision"][name], found["recall"][name]) == precision_recall(x, test)
        assert found["realism"][name] == pytest.approx(np.median(realism(x, test)), rel=1e-5)
        assert found["one_nearest_neighbour"][name] == one_nearest_neighbour(x, test[:60])
    assert "60 pictures against 64 of the test set, 28 px" in found["fid"]["protocol"]
    assert "60 subsets" not in found["kid"]["protocol"] and "100 subsets of 60" in found["kid"]["protocol"]
    assert found["fid"]["floor_protocol"] == "60 training pictures"


def test_a_model_that_memorised_its_images_is_found_out(model_folder: Path, data_folder: Path):
    figures = evaluate(model_folder, data_folder, samples=60, reference=64, device="cpu", metrics=["nearest"])
    for figure in figures:
        assert figure["value"] == 1  # nearer than every held-out image ...
        assert figure["floor"] == pytest.approx(0.5, abs=0.25)  # ... where held-out images are as near as others
        assert figure["median_distance"]["samples"] == 0 < figure["median_distance"]["test"]
    shown = np.asarray(Image.open(model_folder / "nearest.png"))
    assert shown.shape == (2 * 56, 10 * 56)
    assert shown.any() and (shown[:56] == shown[56:]).all()  # above what was made, below what it was made from
    assert "![nearest](nearest.png)" in (model_folder / "README.md").read_text()


def test_mirrored_copies_are_copies_where_training_mirrored(tmp_path: Path, data_folder: Path):
    train = loaders.load("mnist", DATA, 28, count=30).images
    values = {}
    for mirrored in (False, True):
        folder = tmp_path / f"mirrored-{int(mirrored)}"
        memoriser(folder, train.flip(-1).numpy(), "mnist", horizontal_flips=mirrored)
        found = evaluate(folder, data_folder, samples=20, reference=64, device="cpu", metrics=["nearest"])
        values[mirrored] = by_name(found)["data_copying_pixels"]["value"]
    assert values[False] < values[True] == 1


def test_measures_may_be_named_and_the_others_stay_as_they_were(model_folder: Path, data_folder: Path):
    def run(**options: Any) -> dict[str, dict[str, Any]]:
        evaluate(model_folder, data_folder, samples=20, reference=32, classifier=JUDGE, device="cpu", **options)
        return by_name(load_model(model_folder).document["metrics"])

    assert list(run(metrics=["precision_recall", "judge"])) == ["smallest_class_share", "precision", "recall"]
    before = run(metrics=["fid"])
    assert list(before) == ["smallest_class_share", "fid", "precision", "recall"]  # in the order of the card
    evaluate(model_folder, data_folder, samples=30, reference=32, device="cpu", metrics=["fid"])
    after = by_name(load_model(model_folder).document["metrics"])
    assert after["fid"]["samples"] == 30 and before["fid"]["samples"] == 20
    assert after["recall"] == before["recall"]


@pytest.mark.parametrize("name", ["modes", "judge", "beauty"])
def test_an_impossible_metric_is_rejected_with_possible_ones(model_folder: Path, data_folder: Path, name: str):
    right = "fid, fid_train, kid, precision_recall, realism, one_nearest_neighbour, path_length, nearest for memoriser"
    with pytest.raises(TrainingError, match=rf"`metrics` \(={name}\) must be among {right}"):
        evaluate(model_folder, data_folder, device="cpu", metrics=[name])


def test_fid_to_the_training_set_is_of_as_many_images(
    model_folder: Path, data_folder: Path, projections_for_inception: Extract
):
    (found,) = evaluate(model_folder, data_folder, samples=40, metrics=["fid_train"], device="cpu")
    train = loaders.load("mnist", DATA, 28).images.permute(0, 2, 3, 1).numpy()
    made = samples.generate(Runtime(load_model(model_folder)), 0, len(train))[0]
    expected = fid(*map(projections_for_inception, (made, train)))
    assert found["value"] == pytest.approx(expected, rel=1e-6)
    assert found["samples"] == len(train)
    assert f"{len(train)} pictures against all {len(train)} of the training set" in found["protocol"]


def test_a_set_without_a_split_gives_metrics_without_baselines(tmp_path: Path):
    pictures = loaders.load("mnist", DATA, 28, count=40).images.numpy()
    np.savez(tmp_path / "mine.npz", images=pictures)
    folder = memoriser(tmp_path / "memoriser", pictures, "npz").model.folder
    figures = evaluate(folder, tmp_path / "mine.npz", samples=40, reference=40, classifier=JUDGE, device="cpu")
    names = ["fid", "kid", "precision", "recall", "realism", "one_nearest_neighbour", "ppl_z"]
    assert list(by_name(figures)) == names
    assert not any("floor" in figure for figure in figures)
    assert "40 of the pictures it was trained on" in figures[0]["protocol"]


def test_data_of_other_channels_than_the_models_are_refused(tmp_path: Path):
    pictures = loaders.load("mnist", DATA, 28, count=4).images.numpy()
    np.savez(tmp_path / "mine.npz", images=pictures)
    folder = memoriser(tmp_path / "memoriser", pictures.repeat(3, axis=1), "npz").model.folder
    with pytest.raises(DataError, match=r"mine.npz: pictures of 1 channels, where memoriser makes 3"):
        evaluate(folder, tmp_path / "mine.npz", device="cpu")


def test_too_few_pictures_are_refused_by_name(model_folder: Path, data_folder: Path):
    with pytest.raises(TrainingError, match=r"`samples` \(=9\) must be at least 10"):
        evaluate(model_folder, data_folder, samples=9, device="cpu")
    with pytest.raises(TrainingError, match=r"`reference` \(=1\) must be at least 10"):
        evaluate(model_folder, data_folder, reference=1, device="cpu")


def test_an_own_set_of_too_few_pictures_is_refused(tmp_path: Path):
    pictures = loaders.load("mnist", DATA, 28, count=4).images.numpy()
    np.savez(tmp_path / "mine.npz", images=pictures)
    folder = memoriser(tmp_path / "memoriser", pictures, "npz").model.folder
    with pytest.raises(DataError, match=r"mine.npz: 4 pictures; at least 10 are needed to compare with"):
        evaluate(folder, tmp_path / "mine.npz", device="cpu")


def test_a_style_model_has_path_lengths_in_z_and_in_w(repository_folder: Path, tmp_path: Path):
    runtime = Runtime(load_model(repository_folder / "tiny-style"), threads=1)
    runtime.model.document["training"]["recipe"] = {"data": {"name": "critters", "resolution": 16, "count": None}}
    evaluation = Evaluation(runtime, tmp_path, count=10, reference=10, inception_weights=None, device="cpu")
    in_z, in_w = path_length.measure(evaluation)
    assert (in_z["name"], in_w["name"]) == ("ppl_z", "ppl_w")
    assert in_z["value"] != in_w["value"] and min(in_z["value"], in_w["value"]) > 0
    assert "steps of 0.02 on 500 straight lines in w" in in_w["protocol"]
    kept = sorted(path.name.split("-path-")[1] for path in (tmp_path / "features").iterdir())
    assert kept == ["w-0.02.npy", "z-0.02.npy"]


def test_a_confusion_table_is_shown_with_its_classes(tmp_path: Path, data_folder: Path):
    train = loaders.load("mnist", DATA, 28)
    assert train.labels is not None
    pictures = torch.cat([train.images[train.labels == digit][:4] for digit in range(10)])
    folder = memoriser(tmp_path / "memoriser", pictures.numpy(), "mnist", digit_classifier.CLASSES).model.folder
    (accuracy, _) = evaluate(folder, data_folder, reference=64, classifier=JUDGE, device="cpu", metrics=["judge"])
    rows = (folder / "README.md").read_text().splitlines()
    begin = rows.index("| asked \\ read | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 |")
    shown = [[int(cell) for cell in row.split("|")[2:-1]] for row in rows[begin + 2 : begin + 12]]
    assert shown == accuracy["confusion"] and np.trace(shown) == accuracy["value"] * 100 >= 95


def test_what_is_least_real_is_shown_with_its_addresses(
    model_folder: Path, data_folder: Path, projections_for_inception: Extract
):
    (found,) = evaluate(model_folder, data_folder, samples=60, reference=64, device="cpu", metrics=["realism"])
    runtime = Runtime(load_model(model_folder))
    made, _ = samples.generate(runtime, 0, 60)
    test = loaders.load("mnist", DATA, 28, "test").images.permute(0, 2, 3, 1).numpy()
    scores = realism(projections_for_inception(made), projections_for_inception(test))
    worst = [each["address"][1] for each in found["shown"]]
    assert [each["address"] for each in found["shown"]] == [[samples.SEED, i] for i in dict.fromkeys(worst)]
    # an image that was made twice may come in either order: sums are rounded by the place in the batch
    np.testing.assert_allclose(scores[worst], np.sort(scores)[:20], rtol=1e-5)
    shown = np.asarray(Image.open(model_folder / "worst.png"))
    assert shown.shape == (2 * 56, 10 * 56)
    np.testing.assert_array_equal(shown[:56, :56], made[worst[0], :, :, 0].repeat(2, axis=0).repeat(2, axis=1))
    assert f"seed {samples.SEED}, indices {worst[0]}, {worst[1]}, " in (model_folder / "README.md").read_text()


def test_digits_that_are_misread_are_shown_with_what_was_read(tmp_path: Path, data_folder: Path):
    """A model that makes the next digit: all are misread."""
    train = loaders.load("mnist", DATA, 28)
    assert train.labels is not None
    pictures = torch.cat([train.images[train.labels == (digit + 1) % 10][:4] for digit in range(10)])
    folder = memoriser(tmp_path / "memoriser", pictures.numpy(), "mnist", digit_classifier.CLASSES).model.folder
    (accuracy, _) = evaluate(folder, data_folder, reference=64, classifier=JUDGE, device="cpu", metrics=["judge"])
    right = [each for each in accuracy["shown"] if each["read"] == str((each["label"] + 1) % 10)]
    assert len(accuracy["shown"]) == 20 and len(right) >= 18
    assert (folder / "misread.png").is_file()
    assert "reads as something else: 0 as 1, 1 as 2, " in (folder / "README.md").read_text()
    assert "- Asked for " in (folder / "README.md").read_text()


def test_a_stopped_evaluation_resumes_with_the_metrics_it_has(
    model_folder: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    options: dict[str, Any] = {"samples": 60, "reference": 64, "device": "cpu", "metrics": ["fid", "kid", "nearest"]}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(inception, "KEEP_SECONDS", 0.0)
        patched.setattr("training.evaluation.data_copying.nearest_neighbours", stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model_folder, data_folder, **options)
    kept = by_name(load_model(model_folder).document["metrics"])
    assert list(kept) == ["fid", "kid"] and (model_folder / PARTIAL).is_file()

    with monkeypatch.context() as patched:
        patched.setattr("training.evaluation.fid_kid.fid", stop)  # what was measured is not measured again
        resumed = evaluate(model_folder, data_folder, **options)
    assert not (model_folder / PARTIAL).exists()
    assert resumed == evaluate(model_folder, data_folder, **options)
    assert by_name(load_model(model_folder).document["metrics"]) == by_name(resumed)


def test_an_evaluation_of_other_counts_begins_anew(model_folder: Path, data_folder: Path):
    options: dict[str, Any] = {"reference": 64, "device": "cpu", "metrics": ["fid"]}
    values = evaluate(model_folder, data_folder, samples=60, **options)
    of = {"model": load_model(model_folder).sha256, "samples": 60, "reference": 64, "data": str(data_folder)}
    wrong = [values[0] | {"value": -1.0}]
    (model_folder / PARTIAL).write_text(json.dumps({"of": of, "found": {"fid": wrong}}))
    assert evaluate(model_folder, data_folder, samples=60, **options) == wrong  # as if it had been stopped there
    (model_folder / PARTIAL).write_text(json.dumps({"of": of, "found": {"fid": wrong}}))
    assert evaluate(model_folder, data_folder, samples=50, **options)[0]["value"] > 0


def test_an_imported_model_is_compared_with_a_folder_of_images(tmp_path: Path):
    folder = tiny_models.build_imported(tmp_path / "models") / "tiny-imported"
    rng = np.random.default_rng(0)
    (tmp_path / "own").mkdir()
    for i in range(24):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / "own" / f"{i}.png")
    found = by_name(evaluate(folder, tmp_path / "own", samples=24, reference=24, device="cpu"))
    assert {"fid", "kid", "precision", "recall", "ppl_w", "fid_mixed", "truncation_psi"} <= set(found)
    real = loaders.load("folder", tmp_path / "own", 16)
    extract = inception.extractor(None, "cpu")
    made = samples.generate(Runtime(load_model(folder)), 0, 24)[0]
    assert found["fid"]["value"] == pytest.approx(fid(extract(made), extract(real.images.permute(0, 2, 3, 1).numpy())))
    assert "24 of the given pictures" in found["fid"]["protocol"]

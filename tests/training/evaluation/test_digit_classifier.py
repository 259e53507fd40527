"""The digit classifier reads what is there, and the measures over it find what a model was made to show."""

from pathlib import Path

import numpy as np
import pytest
import torch

from memorisers import memoriser
from training.datasets import loaders
from training.datasets.dataset import Dataset
from training.evaluation import digit_classifier, inception_score, modes

DATA = Path(__file__).parents[2] / "data"
JUDGE = DATA / "mnist-judge.onnx"


@pytest.fixture(scope="module")
def real_digits() -> Dataset:
    return loaders.load("mnist", DATA, 28, "test")


@pytest.fixture(scope="module")
def read_well() -> dict[int, torch.Tensor]:
    """Two real images of each digit, which the digit classifier reads as what they are."""
    train = loaders.load("mnist", DATA, 28, "train")
    assert train.labels is not None
    right = (
        torch.from_numpy(digit_classifier.classifier(JUDGE)(train.images.permute(0, 2, 3, 1).numpy())) == train.labels
    )
    return {digit: train.images[right & (train.labels == digit)][:2] for digit in range(10)}


def test_the_judge_reads_real_digits(real_digits: Dataset):
    predicted = digit_classifier.classifier(JUDGE)(real_digits.images.permute(0, 2, 3, 1).numpy())
    assert real_digits.labels is not None and (predicted == real_digits.labels.numpy()).mean() >= 63 / 64


def test_planes_are_read_as_hundreds_tens_and_ones(read_well: dict[int, torch.Tensor]):
    planes = [read_well[digit][0, 0] for digit in (4, 0, 7)]
    assert modes.mode_classifier(JUDGE)(torch.stack(planes, dim=-1)[None].numpy()).tolist() == [407]


def test_a_model_that_confuses_two_classes_is_found_out(
    tmp_path: Path, read_well: dict[int, torch.Tensor], real_digits: Dataset
):
    """Asked for a 4 it gives a 9, and for a 9 a 4."""
    shown = [read_well[{4: 9, 9: 4}.get(digit, digit)] for digit in range(10)]
    runtime = memoriser(tmp_path / "confused", torch.cat(shown).numpy(), "mnist", digit_classifier.CLASSES)
    accuracy, worst = digit_classifier.accuracy(runtime, JUDGE, 3, real_digits)
    assert accuracy["samples"] == 30 and accuracy["reference"] == "mnist-judge.onnx"
    assert accuracy["value"] == 0.8 and worst["value"] == 0
    assert accuracy["by_class"] == {str(digit): float(digit not in (4, 9)) for digit in range(10)}
    table = 3 * np.eye(10, dtype=int)
    table[[4, 9]] = table[[9, 4]]
    assert accuracy["confusion"] == table.tolist()
    assert accuracy["floor"] >= 63 / 64 and accuracy["floor_protocol"] == "64 test pictures"
    assert "floor" not in digit_classifier.accuracy(runtime, JUDGE, 3)[0]


def test_a_model_without_classes_is_asked_for_its_rarest_digit(
    tmp_path: Path, read_well: dict[int, torch.Tensor], real_digits: Dataset
):
    nines_alone = memoriser(tmp_path / "nines", read_well[9].numpy(), "mnist")
    (share,) = digit_classifier.accuracy(nines_alone, JUDGE, 3, real_digits)
    assert share["name"] == "smallest_class_share" and share["value"] == 0
    assert real_digits.labels is not None
    rarest = real_digits.labels.bincount().min().item() / 64 * 10
    assert share["floor"] == pytest.approx(rarest, abs=0.2)  # one image may be misread


def test_inception_score_counts_the_digits_a_model_shows(
    tmp_path: Path, read_well: dict[int, torch.Tensor], real_digits: Dataset
):
    two = memoriser(tmp_path / "two", torch.cat([read_well[0][:1], read_well[1][:1]]).numpy(), "mnist")
    (score,) = inception_score.score(two, JUDGE, 400, real_digits)
    assert score["value"] == pytest.approx(2, abs=0.1) and score["samples"] == 400
    assert 8 < score["floor"] < 10


def test_modes_of_stacked_digits_are_counted(
    tmp_path: Path, read_well: dict[int, torch.Tensor], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(modes, "BATCH", 30)
    triples = [(0, 0, 0), (0, 0, 0), (1, 2, 3), (3, 2, 1)]  # four images of three modes, one of them twice as often
    pictures = torch.stack([torch.cat([read_well[digit][0] for digit in triple]) for triple in triples])
    runtime = memoriser(tmp_path / "stacked", pictures.numpy(), "stacked-mnist")
    real = loaders.load("stacked-mnist", DATA, 28, "test", 100)
    found, kl = modes.count(runtime, JUDGE, 200, real)
    assert found["value"] == 3 and found["samples"] == 200
    assert kl["value"] == pytest.approx(np.log(1000) - 1.5 * np.log(2), abs=0.05)
    assert real.labels is not None
    assert found["floor"] == pytest.approx(len(real.labels.unique()), abs=5)  # one digit of 64 may be misread
    assert found["floor_protocol"] == "100 test pictures"


def test_a_lost_class_has_share_zero_and_an_even_one_share_one():
    assert digit_classifier.smallest_class_share(np.arange(100) % 10, 10) == 1.0
    assert digit_classifier.smallest_class_share(np.arange(90) % 9, 10) == 0.0

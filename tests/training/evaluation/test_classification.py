"""What learns from a model's images reads real ones, if those images have the classes they are said to have."""

from pathlib import Path

import numpy as np
import pytest
import torch

from memorisers import memoriser
from training.datasets import loaders
from training.evaluation import classification, digit_classifier
from training.evaluation.evaluation import Evaluation

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture
def sorted_digits() -> torch.Tensor:
    """16 training images of each digit, the zeros first. (160, 1, 28, 28) uint8"""
    train = loaders.load("mnist", DATA, 28)
    assert train.labels is not None
    return torch.cat([train.images[train.labels == digit][:16] for digit in range(10)])


def subject(folder: Path, pictures: torch.Tensor) -> Evaluation:
    runtime = memoriser(folder, pictures.numpy(), "mnist", digit_classifier.CLASSES)
    return Evaluation(runtime, DATA, count=20, reference=20, inception_weights=None, device="cpu")


def test_right_labels_teach_and_wrong_ones_mislead(
    tmp_path: Path, sorted_digits: torch.Tensor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(classification, "EPOCHS", 40)
    right, read_right, worst_right = classification.measure(subject(tmp_path / "right", sorted_digits))
    wrong, read_wrong, worst_wrong = classification.measure(subject(tmp_path / "wrong", sorted_digits.roll(16, dims=0)))
    assert right["value"] > 0.6 and right["floor"] > 0.6  # of 64 test images, from a few hundred
    assert wrong["value"] < 0.2 and wrong["floor"] == right["floor"]  # each digit learnt as the one after it
    assert right["samples"] == 256  # as many as there are real ones to learn from
    assert "reads the 64 pictures of the test set" in right["protocol"]

    assert read_right["value"] > 0.9 and worst_right["value"] > 0.6  # training images, by the LeNet that learnt them
    assert read_wrong["value"] < 0.1 and worst_wrong["value"] < 0.1
    assert worst_right["value"] == min(read_right["by_class"].values())
    assert worst_right["floor"] == min(read_right["real_by_class"].values()) <= read_right["floor"] == right["floor"]
    asked_next = [row[k - 1] for k, row in enumerate(read_wrong["confusion"])]  # asked for 3, an image of a 2
    assert sum(asked_next) > 0.9 * read_wrong["samples"]


def test_a_thousand_classes_are_not_told_one_by_one(
    tmp_path: Path, sorted_digits: torch.Tensor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(classification, "EPOCHS", 1)
    monkeypatch.setattr(classification, "TOLD", 9)
    _, read, worst = classification.measure(subject(tmp_path / "many", sorted_digits))
    assert not {"by_class", "real_by_class", "confusion"} & read.keys()
    assert worst["value"] <= read["value"]


def test_accuracy_is_counted_class_by_class():
    predicted, asked = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 1])
    assert classification.accuracy_by_class(predicted, asked, ["a", "b", "never asked for"]) == {"a": 1.0, "b": 0.75}


def test_confusion_counts_what_was_read_for_what_was_asked():
    predicted, asked = np.array([0, 2, 1, 1, 2]), np.array([0, 0, 1, 1, 1])
    assert classification.confusion(predicted, asked, 3).tolist() == [[1, 0, 1], [0, 2, 1], [0, 0, 0]]

"""The digit classifier, an ONNX file, and what it reads in the images of a model of digits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from serving.engine.runtime import Runtime
from training.datasets.dataset import Dataset
from training.evaluation.classification import accuracy_by_class, confusion
from training.evaluation.evaluation import Evaluation
from training.evaluation.metric import Baseline, Metric, Value, described, value
from training.evaluation.samples import described as address
from training.evaluation.samples import generate

SIZE = 28  # pixels of the images that it reads
CLASSES = tuple("0123456789")
PER_CLASS = 1000  # images that are read
MISREAD = 20  # images read as another class than was asked, the first of them, that are shown
MISREAD_FILE = "misread.png"

Classifier = Callable[[np.ndarray], np.ndarray]


def scores(path: Path) -> Classifier:
    """An ONNX classifier of one 28 x 28 image in 0 .. 255 -> a function (N, 28, 28, 1) uint8 -> (N, 10) logits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one image is too little work for two
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def read(images: np.ndarray) -> np.ndarray:
        planes = images.transpose(0, 3, 1, 2).astype(np.float32)  # (N, 1, 28, 28)
        return np.concatenate([np.asarray(session.run(None, {name: plane[None]})[0]) for plane in planes])

    return read


def classifier(path: Path) -> Classifier:
    """An ONNX classifier -> a function (N, 28, 28, 1) uint8 -> (N,) digits of the highest score."""
    score = scores(path)
    return lambda images: score(images).argmax(axis=1)


def smallest_class_share(predicted: np.ndarray, classes: int) -> float:
    """Share of the rarest class among the images, times the number of classes: 1 is even, 0 a class lost."""
    return float(np.bincount(predicted, minlength=classes).min() / len(predicted) * classes)


def accuracy(runtime: Runtime, path: Path, per_class: int, real: Dataset | None = None) -> list[Value]:
    """Accuracy by the asked class of a conditional model, else the share of the rarest digit. `real`: the baseline."""
    read = classifier(path)
    n = per_class * len(CLASSES)
    images, asked = generate(runtime, 0, n)
    predicted = read(images)
    values = _accuracies(predicted, asked)
    baselines = {}
    if real is not None:
        labels = None if asked is None or real.labels is None else real.labels.numpy()
        found = _accuracies(read(real.images.permute(0, 2, 3, 1).numpy()), labels)
        baselines = {name: Baseline(each, described(real)) for name, each in found.items()}
    protocol, details = f"{path.name} reads {per_class:,} pictures of each class", {}
    if asked is None:
        protocol = f"rarest digit among {n:,} pictures, as {path.name} reads them; 100 % is an even share"
    else:
        details["judge_accuracy"] = {
            "by_class": accuracy_by_class(predicted, asked, CLASSES),
            "confusion": confusion(predicted, asked, len(CLASSES)).tolist(),
        }
        if len(misread := np.flatnonzero(predicted != asked)[:MISREAD]):
            shown = [address(runtime.model, int(i)) | {"read": CLASSES[predicted[i]]} for i in misread]
            details["judge_accuracy"] |= {"picture": MISREAD_FILE, "shown": shown}
    return [
        value(name, each, protocol, n, path.name, baselines.get(name), **details.get(name, {}))
        for name, each in values.items()
    ]


def _accuracies(predicted: np.ndarray, asked: np.ndarray | None) -> dict[str, float]:
    if asked is None:
        return {"smallest_class_share": smallest_class_share(predicted, len(CLASSES))}
    by_class = accuracy_by_class(predicted, asked, CLASSES)
    return {"judge_accuracy": float(np.mean(predicted == asked)), "judge_worst_class": min(by_class.values())}


def reads_digits(evaluation: Evaluation, dataset: str = "mnist") -> bool:
    """True where there is a classifier, and the model is one of this dataset at the classifier's size."""
    return bool(evaluation.classifier) and evaluation.resolution == SIZE and evaluation.name == dataset


METRIC = Metric(
    "judge",
    lambda evaluation: accuracy(evaluation.runtime, evaluation.required_classifier, PER_CLASS, evaluation.test),
    needs=reads_digits,
)

"""What a digit classifier, the judge, reads in the pictures of an exported model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tqdm import tqdm

from serving.engine.runtime import Runtime
from training.datasets.dataset import Dataset
from training.evaluation import metrics
from training.evaluation.metric import Figure, Floor, figure
from training.evaluation.samples import described, generate

SIZE = 28  # pixels of the pictures that a judge reads
CLASSES = tuple("0123456789")
STACKED_SAMPLES = 26_000  # Metz et al. 2017, section 3.3.1
BATCH = 1000
MISREAD = 20  # pictures read as something else than was asked, the first of them, that are shown
MISREAD_FILE = "misread.png"

Reader = Callable[[np.ndarray], np.ndarray]


def digit_scores(judge: Path) -> Reader:
    """An ONNX classifier of one 28 x 28 picture in 0 .. 255 -> a function (N, 28, 28, 1) uint8 -> (N, 10) logits."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one picture is too little work for two
    session = onnxruntime.InferenceSession(judge.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def read(pictures: np.ndarray) -> np.ndarray:
        planes = pictures.transpose(0, 3, 1, 2).astype(np.float32)  # (N, 1, 28, 28)
        return np.concatenate([np.asarray(session.run(None, {name: plane[None]})[0]) for plane in planes])

    return read


def digit_reader(judge: Path) -> Reader:
    """A judge -> a function (N, 28, 28, 1) uint8 -> (N,) digits, those that score highest."""
    scores = digit_scores(judge)
    return lambda pictures: scores(pictures).argmax(axis=1)


def mode_reader(judge: Path) -> Reader:
    """A judge, for stacked MNIST -> a function (N, 28, 28, 3) uint8 -> (N,) modes: 100 r + 10 g + b, plane by plane."""
    read = digit_reader(judge)

    def modes(pictures: np.ndarray) -> np.ndarray:
        planes = pictures.transpose(0, 3, 1, 2).reshape(-1, SIZE, SIZE, 1)  # (3 N, 28, 28, 1)
        return read(planes).reshape(-1, 3) @ np.array([100, 10, 1])

    return modes


def judge_metrics(runtime: Runtime, judge: Path, per_class: int, real: Dataset | None = None) -> list[Figure]:
    """What the judge reads: as asked of a conditional model, else which digits there are. `real`: for the floor."""
    read = digit_reader(judge)
    n = per_class * len(CLASSES)
    pictures, asked = generate(runtime, 0, n)
    predicted = read(pictures)
    values = _readings(predicted, asked)
    floors = {}
    if real is not None:
        labels = None if asked is None or real.labels is None else real.labels.numpy()
        floors = _floors(_readings(read(_pictures(real)), labels), real)
    protocol, details = f"{judge.name} reads {per_class:,} pictures of each class", {}
    if asked is None:
        protocol = f"rarest digit among {n:,} pictures, as {judge.name} reads them; 100 % is an even share"
    else:
        table = metrics.confusion(predicted, asked, len(CLASSES))
        misread = np.flatnonzero(predicted != asked)[:MISREAD]
        details["judge_accuracy"] = {
            "by_class": metrics.accuracy_by_class(predicted, asked, CLASSES),
            "confusion": table.tolist(),
        }
        if len(misread):
            shown = [described(runtime.model, int(i)) | {"read": CLASSES[predicted[i]]} for i in misread]
            details["judge_accuracy"] |= {"picture": MISREAD_FILE, "shown": shown}
    return [
        figure(name, value, protocol, n, judge.name, floors.get(name), **details.get(name, {}))
        for name, value in values.items()
    ]


def score_metrics(runtime: Runtime, judge: Path, samples: int, real: Dataset) -> list[Figure]:
    """The Inception Score with the judge in Inception's place, calibrated on the labels of `real`.

    As it comes, mnist-judge.onnx is sure of everything: its outputs differ by thousands, so that its score would tell
    how even the digits are and nothing of how clear. On MNIST's test set it is calibrated at a temperature of 350.
    """
    scores = digit_scores(judge)
    if real.labels is None:
        raise ValueError(f"`real` ({real.source.name}) must have labels: the judge is calibrated on them.")
    real_logits = scores(_pictures(real))
    temperature = metrics.temperature(real_logits, real.labels.numpy())

    def score(logits: np.ndarray) -> float:
        return metrics.inception_score((torch.from_numpy(logits) / temperature).softmax(dim=1).numpy())

    protocol = (
        f"over the ten digits of {judge.name} in place of Inception's classes, at the temperature {temperature:.3g} "
        f"that calibrates it on {_described(real)}, {samples:,} pictures in one split"
    )
    value = score(scores(generate(runtime, 0, samples)[0]))
    floor = Floor(score(real_logits), _described(real))
    return [figure("inception_score", value, protocol, samples, judge.name, floor)]


def mode_metrics(runtime: Runtime, judge: Path, samples: int, real: Dataset) -> list[Figure]:
    """Stacked MNIST: how many of the 1,000 triples of digits there are, and how evenly. `real`: for the floor."""
    read = mode_reader(judge)

    def measures(pictures: Callable[[int, int], np.ndarray], n: int, label: str) -> dict[str, float]:
        starts = tqdm(range(0, n, BATCH), f"reading digits: {label}", unit_scale=BATCH, unit="img")
        modes = np.concatenate([read(pictures(start, min(BATCH, n - start))) for start in starts])
        found, kl = metrics.modes_and_kl(modes, 1000)
        return {"modes": found, "modes_kl": kl}

    reals = _pictures(real)
    floors = _floors(measures(lambda start, n: reals[start : start + n], len(reals), "real"), real)
    values = measures(lambda start, n: generate(runtime, start, n)[0], samples, runtime.model.id)
    protocol = f"{judge.name} reads each plane of {samples:,} pictures"
    protocols = {
        "modes": f"{protocol}; of 1,000 triples of digits",
        "modes_kl": f"{protocol}; KL of the triples' shares from even ones, in nats",
    }
    return [figure(name, value, protocols[name], samples, judge.name, floors[name]) for name, value in values.items()]


def _readings(predicted: np.ndarray, asked: np.ndarray | None) -> dict[str, float]:
    if asked is None:
        return {"smallest_class_share": metrics.smallest_class_share(predicted, len(CLASSES))}
    by_class = metrics.accuracy_by_class(predicted, asked, CLASSES)
    return {"judge_accuracy": float(np.mean(predicted == asked)), "judge_worst_class": min(by_class.values())}


def _floors(values: dict[str, float], real: Dataset) -> dict[str, Floor]:
    return {name: Floor(value, _described(real)) for name, value in values.items()}


def _described(real: Dataset) -> str:
    return f"{len(real):,} {real.split} pictures"


def _pictures(real: Dataset) -> np.ndarray:
    return real.images.permute(0, 2, 3, 1).numpy()

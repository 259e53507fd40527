"""Modes of stacked MNIST (Metz et al. 2017, section 3.3.1): how many of the 1,000 triples of digits, and how evenly."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from serving.engine.runtime import Runtime
from training.datasets import loaders
from training.datasets.dataset import Dataset
from training.evaluation import digit_classifier, samples
from training.evaluation.evaluation import Evaluation
from training.evaluation.metric import Baseline, Metric, Value, described, value

MODES = 1000
SAMPLES = 26_000  # Metz et al. 2017, section 3.3.1
BATCH = 1000


def modes_and_kl(modes: np.ndarray, count: int) -> tuple[int, float]:
    """How many of `count` modes there are, and KL(their shares || uniform) in nats (Metz et al. 2017, section 3.3.1).

    modes (N,): the mode of each image, 0 .. count-1. KL is 0 where all are equally frequent, log(count) where one is
    left; N images drawn evenly show about (count - 1) / 2N.
    """
    shares = np.bincount(modes, minlength=count) / len(modes)
    found = shares[shares > 0]
    return len(found), float((found * np.log(found * count)).sum())


def mode_classifier(path: Path) -> digit_classifier.Classifier:
    """A digit classifier -> a function (N, 28, 28, 3) uint8 -> (N,) modes: 100 r + 10 g + b, plane by plane."""
    read = digit_classifier.classifier(path)

    def modes(images: np.ndarray) -> np.ndarray:
        size = digit_classifier.SIZE
        planes = images.transpose(0, 3, 1, 2).reshape(-1, size, size, 1)  # (3 N, 28, 28, 1)
        return read(planes).reshape(-1, 3) @ np.array([100, 10, 1])

    return modes


def count(runtime: Runtime, path: Path, n: int, real: Dataset) -> list[Value]:
    """Return the modes among n images and their KL divergence from even shares. `real`: the baseline."""
    read = mode_classifier(path)

    def found(images: Callable[[int, int], np.ndarray], n: int, label: str) -> dict[str, float]:
        starts = tqdm(range(0, n, BATCH), f"reading digits: {label}", unit_scale=BATCH, unit="img")
        modes = np.concatenate([read(images(start, min(BATCH, n - start))) for start in starts])
        return dict(zip(("modes", "modes_kl"), modes_and_kl(modes, MODES), strict=True))

    reals = real.images.permute(0, 2, 3, 1).numpy()
    baselines = found(lambda start, n: reals[start : start + n], len(reals), "real")
    values = found(lambda start, n: samples.generate(runtime, start, n)[0], n, runtime.model.id)
    protocol = f"{path.name} reads each plane of {n:,} pictures"
    protocols = {
        "modes": f"{protocol}; of 1,000 triples of digits",
        "modes_kl": f"{protocol}; KL of the triples' shares from even ones, in nats",
    }
    return [
        value(name, each, protocols[name], n, path.name, Baseline(baselines[name], described(real)))
        for name, each in values.items()
    ]


def measure(evaluation: Evaluation) -> list[Value]:
    real = loaders.load(evaluation.name, evaluation.data_folder, digit_classifier.SIZE, "test", SAMPLES)
    return count(evaluation.runtime, evaluation.required_classifier, SAMPLES, real)


METRIC = Metric(
    "modes",
    measure,
    needs=lambda evaluation: digit_classifier.reads_digits(evaluation, "stacked-mnist"),
)

"""Inception Score (Salimans et al. 2016) over the classes of the digit classifier in place of Inception's."""

from pathlib import Path

import numpy as np
import torch

from serving.engine.runtime import Runtime
from training.datasets.dataset import Dataset
from training.evaluation import digit_classifier, samples
from training.evaluation.metric import Baseline, Metric, Value, described, value


def inception_score(probabilities: np.ndarray) -> float:
    """exp of the mean KL divergence of p(y|x) from p(y) (Salimans et al. 2016, section 4), over all images at once.

    probabilities (N, K), rows that sum to 1 -> 1, where the class says nothing of the image, to K.
    """
    p = torch.from_numpy(probabilities).double()
    marginal = p.mean(dim=0, keepdim=True)
    return float(torch.exp((torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(dim=1).mean()))


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T at which softmax(logits / T) makes the labels likeliest (Guo et al. 2017, section 4.2). (N, K), (N,).

    Sought between a thousandth of the logits' deviation and a thousand times it: of logits that put every label first
    the least is the likeliest.
    """
    x = torch.from_numpy(logits).double()
    right = x[torch.arange(len(x)), torch.from_numpy(labels)].mean()
    low, high = float(x.std()) / 1000, float(x.std()) * 1000
    for _ in range(60):
        middle = (low * high) ** 0.5
        expected = ((x / middle).softmax(dim=1) * x).sum(dim=1).mean()  # the likelihood's slope is `right` less this
        low, high = (middle, high) if expected > right else (low, middle)
    return low


def score(runtime: Runtime, path: Path, n: int, real: Dataset) -> list[Value]:
    """Return the score of n images, the classifier calibrated on the labels of `real`.

    As it comes, mnist-judge.onnx has a confidence of 1 in everything, for its outputs differ by thousands: the score
    would say how even the digits are and nothing of how clear. On MNIST's test set its temperature is 350.
    """
    read = digit_classifier.scores(path)
    if real.labels is None:
        raise ValueError(f"`real` ({real.source.name}) must have labels: the classifier is calibrated on them.")
    real_logits = read(real.images.permute(0, 2, 3, 1).numpy())
    degree = temperature(real_logits, real.labels.numpy())

    def of(logits: np.ndarray) -> float:
        return inception_score((torch.from_numpy(logits) / degree).softmax(dim=1).numpy())

    protocol = (
        f"over the ten digits of {path.name} in place of Inception's classes, at the temperature {degree:.3g} "
        f"that calibrates it on {described(real)}, {n:,} pictures in one split"
    )
    found = of(read(samples.generate(runtime, 0, n)[0]))
    return [value("inception_score", found, protocol, n, path.name, Baseline(of(real_logits), described(real)))]


METRIC = Metric(
    "inception_score",
    lambda evaluation: score(
        evaluation.runtime,
        evaluation.required_classifier,
        digit_classifier.PER_CLASS * len(digit_classifier.CLASSES),
        evaluation.test,
    ),
    needs=digit_classifier.reads_digits,
)

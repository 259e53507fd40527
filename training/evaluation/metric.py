"""The shape of a metric: what it needs, a function that measures it, and its value as model.json holds it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from training.datasets.dataset import Dataset
from training.evaluation.evaluation import Evaluation

Value = dict[str, Any]


@dataclass(frozen=True)
class Metric:
    """A metric, or several that are computed together. `measure` returns values with their protocol and baseline."""

    name: str  # as `evaluate --metrics` names it
    measure: Callable[[Evaluation], list[Value]]
    needs: Callable[[Evaluation], bool] = lambda evaluation: True  # whether the model and the data allow it
    on_demand: bool = False  # measured only where it is named


class Baseline(NamedTuple):
    """The value of a metric on real images in place of the model's."""

    value: float
    protocol: str  # which images those are


def value(
    name: str,
    value: float,
    protocol: str,
    samples: int,  # generated images
    reference: str,  # what they are compared with
    baseline: Baseline | None = None,
    **details: Any,
) -> Value:
    """Return a value as model.json holds it."""
    found: Value = {"name": name, "value": value, "protocol": protocol, "samples": samples, "reference": reference}
    if baseline is not None:
        found |= {"floor": baseline.value, "floor_protocol": baseline.protocol}
    return found | details


def described(real: Dataset) -> str:
    """Such as "10,000 test images"."""
    return f"{len(real):,} {real.split} pictures"


def compared(
    evaluation: Evaluation,
    names: list[str],
    compute: Callable[[np.ndarray, np.ndarray], Sequence[float]],
    how: str = "",
    made: np.ndarray | None = None,
) -> list[Value]:
    """Values computed from two arrays of features: the samples' (or `made`) against those of the test images.

    The baseline is the same of training images against the test images.
    """
    values = compute(evaluation.sample_features if made is None else made, evaluation.test_features)
    baselines: list[Baseline | None] = [None] * len(names)
    if evaluation.held_out:
        in_place = f"{len(evaluation.train_features):,} training pictures"
        found = compute(evaluation.train_features, evaluation.test_features)
        baselines = [Baseline(each, in_place) for each in found]
    return [
        value(name, each, evaluation.protocol(how), evaluation.count, evaluation.reference_images, baseline)
        for name, each, baseline in zip(names, values, baselines, strict=True)
    ]

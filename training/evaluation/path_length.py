"""Perceptual path length (Karras et al. 2019), on Inception features in place of LPIPS."""

from typing import Literal

import numpy as np

from training.evaluation.evaluation import Evaluation
from training.evaluation.metric import Metric, Value, value

PATHS = 500

# Karras et al. 2019 step by 1e-4 between images of floating point numbers. Ours have 256 levels: a step too short
# shows little but their rounding, and one too long cuts the path's corners. Path lengths measured on 6 paths, as shares
# of what unrounded images give at a step of 0.001; in brackets those of unrounded images:
#   step                       0.001      0.003        0.01         0.02         0.05
#   dcgan-mnist, z             2.6 (1)    1.39 (1.05)  0.92 (0.94)  0.70 (0.71)  0.37 (0.37)
#   stylegan-lite-critters, w  14.5 (1)   3.68 (0.99)  1.24 (0.97)  0.94 (0.89)  0.60 (0.58)
# 0.02 is the shortest of these at which rounding moves both by less than a tenth.
EPSILON = 0.02


def perceptual_path_length(starts: np.ndarray, ends: np.ndarray, epsilon: float) -> float:
    """Mean squared distance over a step of `epsilon` along a path, by epsilon^2 (Karras et al. 2019, eqs. 2 and 3).

    starts, ends (N, D): features at t and at t + epsilon of N paths of length 1. The least and the greatest hundredth
    are left out, as in the authors' code.
    """
    distances = ((starts.astype(np.float64) - ends) ** 2).sum(axis=1) / epsilon**2
    low = np.percentile(distances, 1, method="lower")
    high = np.percentile(distances, 99, method="higher")
    return float(distances[(low <= distances) & (distances <= high)].mean())


def measure(evaluation: Evaluation) -> list[Value]:
    """The path length in z, and in w where there is one."""
    ways: dict[Literal["z", "w"], str] = {"z": "great circles in z"}
    if evaluation.model.style:
        ways["w"] = "straight lines in w"
    found = []
    for space, way in ways.items():
        ends = evaluation.path_features(space, EPSILON, PATHS)
        protocol = (
            f"{evaluation.extractor}, squared distance in place of LPIPS, over steps of {EPSILON:g} on {PATHS:,} {way} "
            f"and divided by the step squared, least and greatest 1 % left out, {evaluation.resolution} px"
        )
        length = perceptual_path_length(ends[0::2], ends[1::2], EPSILON)
        found.append(value(f"ppl_{space}", length, protocol, 2 * PATHS, "none"))
    return found


METRIC = Metric("path_length", measure)

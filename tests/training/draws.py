"""Random features that tests of metrics share."""

import numpy as np


def normal(n: int, d: int, seed: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) + mean

"""Data copying (Meehan et al. 2020): whether samples lie nearer to training images than held-out images do."""

import numpy as np
import torch

from serving.engine import images
from training import files
from training.evaluation import samples
from training.evaluation.distances import ROWS, squared_distances
from training.evaluation.evaluation import Evaluation
from training.evaluation.metric import Baseline, Metric, Value, value

NEAREST = 1000  # generated images whose nearest training images are sought
PAIRS = 10  # of them that are shown
PAIRS_FILE = "nearest.png"


def nearest_neighbours(points: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `points` (N, D) the nearest of `references` (M, D) -> Euclidean distances (N,), indices (N,).

    Both of any numeric type, uint8 pixels included. The search is in float32; the distances of what it found are exact.
    """
    queries = torch.from_numpy(points).float()
    best = torch.full((len(points),), torch.inf)
    found = torch.zeros(len(points), dtype=torch.int64)
    for start in range(0, len(references), ROWS):
        part = torch.from_numpy(references[start : start + ROWS]).float()
        distances, indices = squared_distances(queries, part).min(dim=1)
        nearer = distances < best
        best[nearer], found[nearer] = distances[nearer], start + indices[nearer]
    indices = found.numpy()
    return np.linalg.norm(points.astype(np.float64) - references[indices], axis=1), indices


def data_copying(sample_distances: np.ndarray, held_out_distances: np.ndarray) -> float:
    """Probability that a sample lies nearer to its nearest training image than a held-out image lies to its own.

    The statistic of Meehan et al. (2020, section 3), ties counted half: 0.5 where the samples keep the distance that
    new images have, 1 where all of them are copies. Distances (N,) and (M,).
    """
    order = np.sort(held_out_distances)
    above = len(order) - np.searchsorted(order, sample_distances, side="right")
    not_below = len(order) - np.searchsorted(order, sample_distances, side="left")
    return float((above + not_below).mean() / 2 / len(order))


def measure(evaluation: Evaluation) -> list[Value]:
    """Data copying in pixels and in features; writes the closest pairs beside the model, as nearest.png.

    The baseline compares held-out images with other held-out images.
    """
    n = min(NEAREST, evaluation.count, len(evaluation.test) // 2)
    train = evaluation.train.images
    if evaluation.mirrored:
        train = torch.cat([train, train.flip(-1)])
    train = train.permute(0, 2, 3, 1).numpy()  # (M, H, W, C)
    test = evaluation.test.images[: 2 * n].permute(0, 2, 3, 1).numpy()
    made, _ = samples.generate(evaluation.runtime, 0, n)
    distances, indices = nearest_neighbours(_rows(made), _rows(train))
    closest = np.argsort(distances, kind="stable")[:PAIRS]
    pairs = images.grid(np.concatenate([made[closest], train[indices[closest]]]), len(closest))
    files.write_png(evaluation.model.folder / PAIRS_FILE, images.enlarge(pairs[None], 2)[0])

    mirrors = " and their mirror images" if evaluation.mirrored else ""
    where = f"in pixels, among all {len(evaluation.train):,} training pictures{mirrors}"
    by_pixels = _compared(evaluation, "data_copying_pixels", distances, _rows(test), _rows(train), where)
    known = evaluation.train_features
    distances, _ = nearest_neighbours(evaluation.sample_features[:n], known)
    where = f"in {evaluation.extractor}, among {len(known):,} training pictures"
    unknown = evaluation.test_features[: 2 * n]
    by_features = _compared(evaluation, "data_copying_features", distances, unknown, known, where)
    return [by_pixels | {"picture": PAIRS_FILE}, by_features]


def _compared(
    evaluation: Evaluation, name: str, distances: np.ndarray, test: np.ndarray, train: np.ndarray, where: str
) -> Value:
    """distances (N,): the samples' to `train` (M, D); test (2 N, D): half to compare with, half for the baseline."""
    n = len(distances)
    held_out, _ = nearest_neighbours(test, train)
    protocol = (
        f"how often one of {n:,} samples is nearer to its nearest training picture than one of {n:,} test pictures to "
        f"its own, {where}; 50 % is no copying, 100 % copies alone"
    )
    return value(
        name,
        data_copying(distances, held_out[:n]),
        protocol,
        n,
        f"{evaluation.test.source.name} test, {n} pictures",
        Baseline(data_copying(held_out[n:], held_out[:n]), f"{n:,} other test pictures"),
        median_distance={"samples": float(np.median(distances)), "test": float(np.median(held_out[:n]))},
    )


def _rows(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(len(pixels), -1)  # (N, D)


METRIC = Metric("nearest", measure, needs=lambda evaluation: evaluation.held_out)

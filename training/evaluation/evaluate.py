"""Metrics of an exported model, measured on its ONNX files through the engine that serves them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from training import files
from training.errors import TrainingError
from training.evaluation import (
    classification,
    data_copying,
    digit_classifier,
    fid_kid,
    inception_score,
    modes,
    one_nearest_neighbour,
    path_length,
    precision_recall,
    style_mixing,
    truncation,
)
from training.evaluation.evaluation import Evaluation
from training.evaluation.metric import Value
from training.publish import model_card

METRICS = (
    digit_classifier.METRIC,
    inception_score.METRIC,
    modes.METRIC,
    classification.METRIC,
    fid_kid.FID,
    fid_kid.FID_TRAIN,
    fid_kid.KID,
    precision_recall.METRIC,
    precision_recall.REALISM,
    one_nearest_neighbour.METRIC,
    path_length.METRIC,
    data_copying.METRIC,
    style_mixing.FID,
    truncation.METRIC,
    style_mixing.METRIC,
)
PARTIAL = "evaluation.partial.json"  # in the model's folder, until the evaluation has ended


def evaluate(
    folder: Path,
    data_folder: Path,
    *,
    samples: int = 10_000,
    reference: int = 10_000,
    inception: Path | None = None,
    classifier: Path | None = None,
    device: torch.device | str,
    metrics: Sequence[str] | None = None,
) -> list[Value]:
    """Measures the model in `folder` and writes each value into its model.json and README.md as it is found.

    `metrics` names some of METRICS (default: all that the data allow, except those on demand); values of others stay as
    they were. A stopped evaluation resumes with the metrics it has. Raises TrainingError.
    """
    runtime = Runtime(load_model(folder))
    evaluation = Evaluation(
        runtime,
        data_folder,
        count=samples,
        reference=reference,
        inception_weights=inception,
        classifier=classifier,
        device=device,
    )
    known = {metric.name: metric for metric in METRICS if metric.needs(evaluation)}
    chosen = [name for name in known if not known[name].on_demand] if metrics is None else metrics
    if unknown := [name for name in chosen if name not in known]:
        raise TrainingError(f"`metrics` (={unknown[0]}) must be among {', '.join(known)} for {runtime.model.id} here.")
    of = {"model": runtime.model.sha256, "samples": samples, "reference": reference, "data": str(data_folder.resolve())}
    partial = folder / PARTIAL
    found = _found_before(partial, of)
    for name in known:
        if name in chosen and name not in found:
            found[name] = known[name].measure(evaluation)
            _write(folder, found[name])
            _replace(partial, {"of": of, "found": found})
    partial.unlink(missing_ok=True)
    return [value for name in known if name in chosen for value in found[name]]


def _found_before(partial: Path, of: dict[str, Any]) -> dict[str, list[Value]]:
    """Return the values of a stopped evaluation, by metric; none if it was of other files, counts or data."""
    kept = json.loads(partial.read_text()) if partial.is_file() else {}
    return kept["found"] if kept.get("of") == of else {}


def _write(folder: Path, values: list[Value]) -> None:
    """Replaces older values of the same names, in model.json and the card."""
    document = json.loads((folder / "model.json").read_text())
    by_name = {value["name"]: value for value in [*document["metrics"], *values]}
    document["metrics"] = [by_name[name] for name in model_card.TITLES if name in by_name]
    _replace(folder / "model.json", document)
    model_card.write(folder)


def _replace(path: Path, document: dict[str, Any]) -> None:
    files.write(path, json.dumps(document, indent=2) + "\n")

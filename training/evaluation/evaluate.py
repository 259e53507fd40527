"""Metrics of an exported model, measured on its ONNX files through the engine that serves them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from training.datasets import loaders
from training.errors import TrainingError
from training.evaluation import attribute_classifier, digit_classifier, fid_kid, gan_train_test, style_mixing
from training.evaluation.digit_classifier import judge_metrics
from training.evaluation.evaluation import Subject
from training.evaluation.metric import Figure
from training.publish import model_card

JUDGED_PER_CLASS = 1000
ON_DEMAND = ("fid_train",)  # five times the work of all the others

Measure = Callable[[], list[Figure]]


def evaluate(
    folder: Path,
    data_folder: Path,
    *,
    samples: int = 10_000,
    reference: int = 10_000,
    inception: Path | None = None,
    judge: Path | None = None,
    device: torch.device | str,
    metrics: Sequence[str] | None = None,
) -> list[Figure]:
    """Measures the model in `folder` and writes the figures into its model.json and README.md, each as it is found.

    `metrics` names some of `measures`, all but ON_DEMAND unless given; figures of others stay as they were. Raises
    TrainingError.
    """
    runtime = Runtime(load_model(folder))
    subject = Subject(runtime, data_folder, count=samples, reference=reference, inception=inception, device=device)
    known = measures(subject, judge)
    chosen = [name for name in known if name not in ON_DEMAND] if metrics is None else metrics
    if unknown := [name for name in chosen if name not in known]:
        raise TrainingError(f"`metrics` (={unknown[0]}) must be among {', '.join(known)} for {runtime.model.id} here.")
    found: list[Figure] = []
    for name in known:
        if name in chosen:
            fresh = known[name]()
            _write(folder, fresh)
            found += fresh
    return found


def measures(subject: Subject, judge: Path | None) -> dict[str, Measure]:
    """What can be measured of a model with the data and the judge that are there, by name, in the card's order."""
    by_name: dict[str, Measure] = {}
    if judge and subject.resolution == digit_classifier.SIZE:
        runtime = subject.runtime
        if subject.name == "mnist":
            n = JUDGED_PER_CLASS * len(digit_classifier.CLASSES)
            by_name["judge"] = lambda: judge_metrics(runtime, judge, JUDGED_PER_CLASS, subject.test)
            by_name["inception_score"] = lambda: digit_classifier.score_metrics(runtime, judge, n, subject.test)
        if subject.name == "stacked-mnist":
            n = digit_classifier.STACKED_SAMPLES
            by_name["modes"] = lambda: digit_classifier.mode_metrics(
                runtime, judge, n, loaders.load(subject.name, subject.data_folder, digit_classifier.SIZE, "test", n)
            )
    if subject.model.classes and subject.labelled:
        by_name["classification"] = lambda: gan_train_test.classification(subject)
    by_name["fid"] = lambda: fid_kid.fid(subject)
    by_name["fid_train"] = lambda: fid_kid.fid_train(subject)
    by_name["kid"] = lambda: fid_kid.kid(subject)
    by_name["precision_recall"] = lambda: fid_kid.precision_recall(subject)
    by_name["realism"] = lambda: fid_kid.realism(subject)
    by_name["one_nearest_neighbour"] = lambda: fid_kid.one_nearest_neighbour(subject)
    by_name["path_length"] = lambda: fid_kid.path_length(subject)
    if subject.held_out:
        by_name["nearest"] = lambda: fid_kid.nearest(subject)
    if subject.model.style:
        by_name["mixed_fid"] = lambda: style_mixing.mixed_fid(subject)
        by_name["truncation"] = lambda: style_mixing.truncation(subject)
        if subject.name == "critters" and subject.resolution >= attribute_classifier.GRID:
            by_name["mixing"] = lambda: style_mixing.mixing(subject)
    return by_name


def _write(folder: Path, figures: list[Figure]) -> None:
    """Puts figures in the place of older ones of the same names, into model.json and the card."""
    document = json.loads((folder / "model.json").read_text())
    by_name = {figure["name"]: figure for figure in [*document["metrics"], *figures]}
    document["metrics"] = [by_name[name] for name in model_card.TITLES if name in by_name]
    partial = folder / "model.json.partial"
    partial.write_text(json.dumps(document, indent=2) + "\n")
    partial.replace(folder / "model.json")
    model_card.write(folder)

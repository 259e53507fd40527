"""Semantic directions of a style model: what its w can be moved along, found from the exported files.

SeFa (Shen and Zhou 2021, eq. 7): the eigenvectors of A^T A, for A the weights of the style projections, are the
directions in w that change the styles most. GANSpace (Haerkoenen et al. 2020, section 3.1): the principal components of
w over addresses. Named directions are found by logistic regression in w on what an attribute classifier reads (Shen et
al. 2020, section 3.1, with an SVM). They are not the normals of its planes but how w varies with the distance to them,
the covariance of w times the normal (Haufe et al. 2014, eq. 6): w has nearly all of its variance in a few dimensions,
and one standard deviation along a normal, which mostly points out of them, is a step a tenth as long.

Each is scaled to one standard deviation of w along it. The sign of a named direction adds its attribute; that of the
others makes the entry of the largest magnitude positive. So a second run gives the same file.
"""

import hashlib
import io
import json
import os
import zipfile
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime

from serving.engine.latents import address_range
from serving.engine.model_json import DIRECTIONS, StyleSpec
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from training.datasets import critters
from training.errors import TrainingError
from training.evaluation import attribute_classifier
from training.evaluation.attribute_classifier import AttributeClassifier
from training.evaluation.style_mixing import LEVEL

W_SAMPLES = 10_000  # addresses whose w give standard deviations, components and planes
OVER_ALL, PER_GROUP, COMPONENTS = 8, 4, 8
RARE = 0.02  # share of images; an attribute's value that is rarer has no direction
NAMED = 3  # of an attribute, at most: those that move it in the most images
TRIED = 100  # images by which those are chosen
RIDGE = 1e-2  # of the logistic regression, on w of unit variance
NEWTON_STEPS = 12
MEASURED = 500  # images of the measurement, other addresses than those of the planes
STRENGTH = 3.0  # of the measurement
SEED, MEASURED_SEED = 0, 1
LINEAR = ("Gemm", "MatMul")
MOVES = ("Gather", "Slice", "Split", "Squeeze", "Unsqueeze", "Reshape", "Identity", "Cast")  # of data, not arithmetic


class Direction(NamedTuple):
    name: str
    method: str  # sefa, ganspace or attribute
    layers: tuple[int, ...]
    vector: np.ndarray  # (W,) float32, of one standard deviation
    details: dict[str, Any]


def write(folder: Path, data_folder: Path | None = None) -> list[Direction]:
    """Write `directions.npz` into a model's folder, and its sha256 and list into `model.json`; return the directions.

    A model of critters gets named directions where `data_folder` is given: the attribute classifier there is trained if
    it is missing (minutes). Raises TrainingError for a model without styles, ModelError.
    """
    model = load_model(folder)
    if model.style is None:
        raise TrainingError(f"{folder}: `family` is {model.family}; only style models have directions.")
    runtime = Runtime(model)
    found = [*sefa(runtime), *ganspace(runtime)]
    if data_folder is not None and model.document["dataset"]["name"] == "critters":
        found += named(runtime, attribute_classifier.load(data_folder, model.image.width))
    _save(folder, found)
    load_model(folder)  # the engine takes what was written
    return found


def sefa(runtime: Runtime) -> list[Direction]:
    """SeFa over all layers, and over the coarse, middle and fine ones: those act on their group alone."""
    style = _style(runtime)
    weights = style_weights(runtime)
    w = sample_w(runtime)
    found = []
    for group, layers in {"": tuple(range(style.layers)), **_groups(style)}.items():
        rows = np.concatenate([weights[layer] for layer in layers])  # (outputs, W)
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        values, vectors = np.linalg.eigh(rows.T @ rows)  # ascending
        count = min(PER_GROUP if group else OVER_ALL, style.w_size)
        for k in range(count):
            name = f"sefa-{group}-{k}" if group else f"sefa-{k}"
            share = float(values[-1 - k] / values.sum())
            found.append(_direction(name, "sefa", layers, vectors[:, -1 - k], w, share=round(share, 4)))
    return found


def ganspace(runtime: Runtime) -> list[Direction]:
    """GANSpace: the first principal components of w, on all layers."""
    style, w = _style(runtime), sample_w(runtime)
    values, vectors = np.linalg.eigh(np.cov(w.T))
    layers = tuple(range(style.layers))
    return [
        _direction(
            f"pca-{k}", "ganspace", layers, vectors[:, -1 - k], w, share=round(float(values[-1 - k] / values.sum()), 4)
        )
        for k in range(min(COMPONENTS, style.w_size))
    ]


def named(runtime: Runtime, read: AttributeClassifier) -> list[Direction]:
    """Directions that give a critter one value of an attribute, on the layers that the attribute belongs to.

    Of each attribute the values are kept that are given to the most images at STRENGTH; `details` has what was measured
    (see `measure`).
    """
    style, w = _style(runtime), sample_w(runtime)
    groups, covariance = _groups(style), np.cov(w.T)
    values = read(runtime.synthesize({"w": _on_layers(w, style)}))  # (N, 7)
    found = []
    for k, (attribute, names) in enumerate(critters.attribute_values().items()):
        for value, name in enumerate(names):
            has = values[:, k] == value
            if not RARE <= has.mean() <= 1 - RARE:
                continue
            pattern = covariance @ logistic_regression(w, has)
            layers = groups[LEVEL[attribute]]
            details = {"attribute": attribute, "value": name}
            found.append(_direction(_slug(attribute, name), "attribute", layers, pattern, w, sign=1, **details))
    chosen: list[Direction] = []
    for _, alike in groupby(measure(runtime, read, found, TRIED), key=lambda direction: direction.details["attribute"]):
        chosen += sorted(alike, key=lambda direction: (-direction.details["moved"], direction.name))[:NAMED]
    return measure(runtime, read, chosen, MEASURED)


def measure(runtime: Runtime, read: AttributeClassifier, directions: list[Direction], n: int) -> list[Direction]:
    """Add to the details of named directions what they do to `n` images at STRENGTH, as the classifier reads it.

    `moved`: the share of images that have the value then, of those that had another. `kept`: for each other attribute,
    the share of the images that keep its value.
    """
    style = _style(runtime)
    z = runtime.model.latents(address_range(MEASURED_SEED, 0, n))
    w = runtime.map(z, np.ones((len(z), style.layers), np.float32))
    before = read(runtime.synthesize({"w": w}))
    attributes = list(critters.attribute_values())
    found = []
    for direction in directions:
        moved_w = w.copy()
        moved_w[:, list(direction.layers)] += np.float32(STRENGTH) * direction.vector
        after = read(runtime.synthesize({"w": moved_w}))
        k = attributes.index(direction.details["attribute"])
        value = critters.attribute_values()[attributes[k]].index(direction.details["value"])
        others = before[:, k] != value
        same = (before == after).mean(axis=0)
        found.append(
            direction._replace(
                details=direction.details
                | {
                    "strength": STRENGTH,
                    "moved": round(float((after[others, k] == value).mean()), 4) if others.any() else 0.0,
                    "kept": {name: round(float(same[i]), 4) for i, name in enumerate(attributes) if i != k},
                    "samples": n,
                }
            )
        )
    return found


def logistic_regression(w: np.ndarray, has: np.ndarray) -> np.ndarray:
    """Return the normal (W,) of the plane in w (N, W) that best tells rows that are true in `has` (N,) from others.

    Newton's method on the ridge-penalised likelihood, from zero: a fixed number of steps, so the result is the same.
    """
    mean, scale = w.mean(axis=0), np.maximum(w.std(axis=0), 1e-8)
    x = np.concatenate([(w - mean) / scale, np.ones((len(w), 1))], axis=1)  # (N, W + 1)
    y = has.astype(np.float64)
    penalty = np.full(x.shape[1], RIDGE * len(w))
    penalty[-1] = 0  # the bias is free
    weights = np.zeros(x.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (p - y) + penalty * weights
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(penalty + 1e-6)
        weights -= np.linalg.solve(curvature, gradient)
    return weights[:-1] / scale


def style_weights(runtime: Runtime) -> list[np.ndarray]:
    """Return for each layer the weights (outputs, W) float64 of the projections that read its w.

    They are found in the graph, as the first products that are reached from `w` by moves of data alone, and measured:
    each is affine in w, so its weights are its differences along the axes. Raises TrainingError where there are none.
    """
    style, model = _style(runtime), onnx.load_model_from_string(runtime.model.read("synthesis.onnx"))
    outputs = _projections(model.graph)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs if name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    zero = np.zeros((1, style.layers, style.w_size), np.float32)
    origin = _run(session, outputs, zero)
    weights: list[np.ndarray] = []
    for layer in range(style.layers):
        axes = np.zeros((style.w_size, style.layers, style.w_size), np.float32)
        axes[:, layer] = np.eye(style.w_size)
        rows = [found - start for found, start in zip(_run(session, outputs, axes), origin, strict=True)]
        rows = [difference.T for difference in rows if np.abs(difference).max() > 0]
        if not rows:
            raise TrainingError(f"{runtime.model.folder}: no projection in synthesis.onnx reads layer {layer} of w.")
        weights.append(np.concatenate(rows))
    return weights


def sample_w(runtime: Runtime) -> np.ndarray:
    """Return the w (N, W) float64 of W_SAMPLES addresses without truncation: those of all layers are equal."""
    style = _style(runtime)
    z, classes = runtime.model.latents(address_range(SEED, 0, W_SAMPLES)), runtime.model.classes
    labels = None if classes is None else np.arange(len(z)) % len(classes)
    return runtime.map(z, np.ones((len(z), style.layers), np.float32), labels)[:, 0].astype(np.float64)


def _style(runtime: Runtime) -> StyleSpec:
    assert runtime.model.style is not None
    return runtime.model.style


def _groups(style: StyleSpec) -> dict[str, tuple[int, ...]]:
    groups = {"coarse": style.coarse, "middle": style.middle, "fine": style.fine}
    return {name: layers for name, layers in groups.items() if layers}


def _on_layers(w: np.ndarray, style: StyleSpec) -> np.ndarray:
    """(N, W) -> (N, L, W) float32."""
    return np.broadcast_to(w.astype(np.float32)[:, None], (len(w), style.layers, style.w_size))


def _direction(
    name: str,
    method: str,
    layers: tuple[int, ...],
    vector: np.ndarray,
    w: np.ndarray,
    *,
    sign: int | None = None,
    **details: Any,
) -> Direction:
    unit = vector / np.linalg.norm(vector)
    if sign is None:
        sign = 1 if unit[np.abs(unit).argmax()] > 0 else -1
    return Direction(name, method, layers, (sign * (w @ unit).std() * unit).astype(np.float32), details)


def _slug(attribute: str, value: str) -> str:
    words = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in value.removeprefix("#"))
    return f"{attribute.replace(' ', '-')}-{words}"


def _projections(graph: onnx.GraphProto) -> list[str]:
    """Return the outputs of the first products that `w` reaches by moves of data alone."""
    reached, found = {"w"}, []
    for node in graph.node:  # in topological order
        if not node.input or not reached & set(node.input):
            continue
        if node.op_type in LINEAR:
            found.append(node.output[0])
        elif node.op_type in MOVES and node.input[0] in reached:
            reached |= set(node.output)
    if not found:
        raise TrainingError("synthesis.onnx has no product of w and weights, so SeFa finds no directions in it.")
    return found


def _run(session: onnxruntime.InferenceSession, outputs: list[str], w: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(found, np.float64).reshape(len(w), -1) for found in session.run(outputs, {"w": w})]


def _save(folder: Path, directions: list[Direction]) -> None:
    """Write the file, then model.json; a model.json that is read between the two is the former one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # np.savez may date its entries
        for direction in directions:
            array = io.BytesIO()
            np.lib.format.write_array(array, direction.vector, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{direction.name}.npy"), array.getvalue())
    data = buffer.getvalue()
    document = json.loads((folder / "model.json").read_text())
    entries = [
        {"name": each.name, "method": each.method, "layers": list(each.layers), **each.details} for each in directions
    ]
    files = document["files"] | {DIRECTIONS: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}}
    members = {}
    for key, value in document.items():  # beside what it belongs to
        if key == "directions":
            continue
        members[key] = dict(sorted(files.items())) if key == "files" else value
        if key == "style":
            members["directions"] = entries
    for name, content in ((DIRECTIONS, data), ("model.json", (json.dumps(members, indent=2) + "\n").encode())):
        partial = folder / f".{name}.partial"
        partial.write_bytes(content)
        os.replace(partial, folder / name)

"""Networks -> ONNX and model.json, written only once every check has passed.

The checks run on the exported files, through the engine that will serve them: what passes is what is served.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from serving.engine import model_json
from serving.engine.latents import address_range, latents
from serving.engine.repository import MAX_DOCUMENT_BYTES, ModelError, load_model
from serving.engine.runtime import Runtime
from training.datasets.transforms import to_uint8
from training.errors import DataError, ExportError
from training.loop import checkpoint
from training.loop.trainer import Trainer
from training.networks import NETWORKS, stylegan
from training.publish import card_images, model_card, model_folder
from training.recipe import Recipe

LEVELS = 1  # of 255: how far a picture may be from torch's ...
TOLERATED = 1e-4  # ... in at most this share of its values
PARITY_LATENTS = 64
PARITY_BATCHES = (1, 7, 32)
MIN_SPREAD = 8.0  # levels: standard deviation that pictures of anything have, and a constant grey has not
LICENCE = "Apache-2.0"


def export(run: Path, models: Path, *, replace: bool = False) -> Path:
    """The averaged generator in `run` -> models/<id>/. Raises ExportError.

    `run` is a run folder, whose best snapshot is taken if FID was measured and the last state if not, or the file of a
    snapshot. A model that is there stays until the new one is whole, and for good where it holds metrics or what no
    export wrote, unless `replace`.
    """
    best = run / "snapshots" / "best.pt"
    path = (best if best.is_file() else run / "checkpoint.pt") if run.is_dir() else run
    if not path.is_file():
        raise ExportError(f"{run}: no such run folder or snapshot.")
    recipe, state = checkpoint.read_run(path)
    if recipe.growing and state["images_seen"] < 1000 * recipe.growing.whole_kimg:
        raise ExportError(
            f"{path}: growing, at {state['images_seen'] / 1000:g} kimg; all layers are in use from "
            f"{recipe.growing.whole_kimg:g} kimg on."
        )
    target = models / recipe.id
    if not replace:
        model_folder.check_replaceable(target, _document(recipe, state, {}))
    folder = models / f".{recipe.id}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        generator = _generator(recipe, state)
        if recipe.family == "stylegan":
            _export_stylegan(generator, recipe, folder)
        else:
            _export_generator(generator, recipe, state, folder)
        for path in folder.glob("*.onnx"):
            onnx.checker.check_model(str(path), full_check=True)
        files = {
            path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}
            for path in sorted(folder.glob("*.onnx"))
        }
        (folder / "model.json").write_text(json.dumps(_document(recipe, state, files), indent=2) + "\n")
        try:
            runtime = Runtime(load_model(folder))
        except ModelError as error:
            raise ExportError(f"the engine refuses the exported files: {error}") from error
        check(runtime, generator)
        card_images.keep_record(run if run.is_dir() else run.parent.parent, folder)
        model_card.write(folder)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"the ONNX checker refuses the graph: {error}") from error
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and not error.filename:
            error.filename = str(folder)
        raise
    model_folder.put(folder, target)
    return target


def check_document(trainer: Trainer) -> None:
    """Holds a run to the rules of model.json before it is trained. Raises DataError."""
    recipe, state = trainer.recipe, checkpoint.snapshot(trainer)
    files = {name: {"sha256": 64 * "0", "size": 1} for name in model_json.GRAPHS[recipe.family]}
    for name in (state["source"]["name"], *(state["classes"] or ())):
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise DataError(f"{name!r} is not a name in UTF-8, and no model can be called so: rename it.")
    text = json.dumps(_document(recipe, state, files), indent=2).encode()
    if len(text) > MAX_DOCUMENT_BYTES // 2:  # metrics come on top
        raise DataError(f"the model's model.json would have {len(text):,} bytes: give classes fewer or shorter names.")
    try:
        model_json.parse(text)
    except model_json.DocumentError as error:
        raise DataError(f"the trained model would be rejected: {error}") from None


def check(runtime: Runtime, generator: Any) -> None:
    """Holds the exported graphs against the torch generator, and every input against its effect. Raises ExportError."""
    model = runtime.model
    z = latents(address_range(0, 0, PARITY_LATENTS), model.latent_size)
    labels = np.arange(PARITY_LATENTS) % len(model.classes) if model.classes else None
    with torch.no_grad():
        arguments = [torch.from_numpy(z)] + ([] if labels is None else [torch.from_numpy(labels)])
        expected = to_uint8(generator(*arguments)).permute(0, 2, 3, 1).numpy()
    for batch in PARITY_BATCHES:
        slices = [slice(start, start + batch) for start in range(0, PARITY_LATENTS, batch)]
        found = [runtime.generate(z[rows], None if labels is None else labels[rows]) for rows in slices]
        _check_parity(np.concatenate(found), expected, batch)
    if (spread := float(expected.std())) < MIN_SPREAD:
        raise ExportError(f"spread: the pictures vary by {spread:.1f} levels; at least {MIN_SPREAD} is a picture.")
    if len(np.unique(expected.reshape(len(expected), -1), axis=0)) < len(expected):
        raise ExportError("variety: two of the latents gave the same picture.")
    if model.classes:
        _check_labels(runtime, z[0])
    if model.style:
        _check_styles(runtime, z)


def _check_parity(found: np.ndarray, expected: np.ndarray, batch: int) -> None:
    difference = np.abs(found.astype(int) - expected.astype(int))
    share = float((difference > 0).mean())
    if difference.max() > LEVELS or share > TOLERATED:
        raise ExportError(
            f"parity at batch {batch}: up to {difference.max()} levels from torch, in {share:.5%} of the values; "
            f"{LEVELS} level in at most {TOLERATED:.2%} is allowed."
        )


def _check_labels(runtime: Runtime, z: np.ndarray) -> None:
    assert runtime.model.classes is not None
    count = len(runtime.model.classes)
    pictures = runtime.generate(np.repeat(z[None], count, axis=0), np.arange(count))
    if len(np.unique(pictures.reshape(count, -1), axis=0)) < count:
        raise ExportError("labels: two labels gave the same picture of one latent.")


def _check_styles(runtime: Runtime, z: np.ndarray) -> None:
    style = runtime.model.style
    assert style is not None
    ones = np.ones((len(z), style.layers), np.float32)
    w = runtime.map(z, ones)
    other = np.roll(w, 1, axis=0)
    plain = runtime.synthesize({"w": w})
    for layer in range(style.layers):
        mixed = w.copy()
        mixed[:, layer] = other[:, layer]
        if np.array_equal(runtime.synthesize({"w": mixed}), plain):
            raise ExportError(f"styles: layer {layer} changes no picture.")
    truncated = runtime.generate(z[:8], psi=np.zeros(style.layers, np.float32))
    if (truncated != truncated[:1]).any():
        raise ExportError("truncation: psi 0 must give one picture, whatever the latent.")
    if np.array_equal(runtime.generate(z[:8], psi=np.full(style.layers, 0.5, np.float32)), plain[:8]):
        raise ExportError("truncation: psi 0.5 gives the pictures of psi 1.")


class _Pictures(nn.Module):
    """A generator whose output is uint8, so that no caller repeats the conversion and a quarter of the bytes travel."""

    def __init__(self, generator: nn.Module):
        super().__init__()
        self.generator = generator

    def forward(self, *inputs: Tensor) -> Tensor:
        return to_uint8(self.generator(*inputs))


class _Mapping(nn.Module):
    """z (N, Z), psi (N, L) -> ws (N, L, W), truncated towards the mean w that lies in the graph."""

    def __init__(self, mapping: stylegan.Mapping):
        super().__init__()
        self.mapping = mapping

    def forward(self, z: Tensor, psi: Tensor) -> Tensor:
        return stylegan.truncate(self.mapping(z), self.mapping.w_mean, psi)


def _generator(recipe: Recipe, state: dict[str, Any]) -> Any:
    shape = (recipe.network, recipe.data.resolution, state["channels"], len(state["classes"] or ()) or None)
    generator = NETWORKS[recipe.family].Generator(*shape)
    generator.load_state_dict(state["average"])
    return generator.eval().requires_grad_(False)


def _export_generator(generator: nn.Module, recipe: Recipe, state: dict[str, Any], folder: Path) -> None:
    inputs = {"z": torch.randn(2, recipe.network.latent_size)}
    if state["classes"]:
        inputs["label"] = torch.tensor([0, 1])
    _write(_Pictures(generator), inputs, "image", folder / "generator.onnx")


def _export_stylegan(generator: stylegan.Generator, recipe: Recipe, folder: Path) -> None:
    z, psi = torch.randn(2, recipe.network.latent_size), torch.ones(2, generator.style_layers)
    mapping = _Mapping(generator.mapping)
    _write(mapping, {"z": z, "psi": psi}, "w", folder / "mapping.onnx")
    _write(_Pictures(generator.synthesis), {"w": mapping(z, psi)}, "image", folder / "synthesis.onnx")


def _write(module: nn.Module, inputs: dict[str, Tensor], output: str, path: Path) -> None:
    # The first input names the axis; the others, bound to it by the graph, would only make the exporter warn.
    shapes = [{0: torch.export.Dim("n") if k == 0 else torch.export.Dim.DYNAMIC} for k in range(len(inputs))]
    torch.onnx.export(
        module.eval(),
        tuple(inputs.values()),
        str(path),
        input_names=list(inputs),
        output_names=[output],
        dynamic_shapes=[tuple(shapes)] if isinstance(module, _Pictures) else shapes,  # its arguments are one *inputs
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    forget_origin(path)


def forget_origin(path: Path) -> None:
    """Takes out what the exporter notes of its own machine: the stack trace, with file names, of every node."""
    model = onnx.load(path)
    for item in (
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
        *model.graph.initializer,
    ):
        item.ClearField("metadata_props")
        if isinstance(item, onnx.NodeProto):
            item.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    onnx.save(model, path)


def _document(recipe: Recipe, state: dict[str, Any], files: dict[str, Any]) -> dict[str, Any]:
    """model.json, its metrics still to be measured."""
    style = None
    if isinstance(recipe.network, stylegan.Config):
        groups = stylegan.style_groups(recipe.data.resolution // recipe.network.patch)
        layers = sum(map(len, groups.values()))
        style = {"layers": layers, "w_size": recipe.network.w_size, **groups}
    return {
        "schema_version": 1,
        "id": recipe.id,
        "name": recipe.name,
        "family": recipe.family,
        "licence": LICENCE,
        "dataset": state["source"],
        "image": {
            "height": recipe.data.resolution,
            "width": recipe.data.resolution,
            "channels": state["channels"],
        },
        "latent_size": recipe.network.latent_size,
        "classes": state["classes"],
        "style": style,
        "files": files,
        "training": {
            "recipe": recipe.as_dict(),
            "recipe_sha256": recipe.sha256,
            "schedule": state["schedule"],
            "device": state["device"],
            "images_seen": state["images_seen"],
            "seconds": round(state["seconds"], 1),
            "git_revision": state["git_revision"],
            "versions": {"torch": torch.__version__, "onnx": onnx.__version__},
        },
        "metrics": [],
    }

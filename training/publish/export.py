"""Networks -> ONNX and model.json, written only once every check has passed.

The checks run on the exported files, through the engine that will serve them: what passes is what is served.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from serving.engine import model_json
from serving.engine.latents import address_range
from serving.engine.repository import MAX_DOCUMENT_BYTES, ModelError, load_model
from serving.engine.runtime import Runtime
from training.datasets.transforms import to_uint8
from training.errors import DataError, ExportError
from training.loop import checkpoint
from training.loop.trainer import Trainer
from training.networks import NETWORKS, NetworkConfig, stylegan, stylegan2
from training.publish import card_images, model_card, model_folder
from training.recipe import Recipe

LEVELS = 1  # of 255: how far an image may be from torch's ...
TOLERATED = 1e-4  # ... in at most this share of its values, ...
TOLERATED_LARGE = 1e-3  # ... or this from LARGE pixels on: 16 layers deep, 0.012 % of StyleGAN2's at 1024 px differ
LARGE = 128
PARITY_LATENTS = 64
PARITY_BATCHES = (1, 7, 32)
PARITY_PIXELS = 2**20  # of all images that are compared, at most
MIN_SPREAD = 8.0  # levels: standard deviation that images of anything have, and a constant grey has not
LICENCE = "Apache-2.0"


def export(run: Path, models: Path, *, replace: bool = False) -> Path:
    """The averaged generator in `run` -> models/<id>/. Raises ExportError.

    `run` is a run folder, whose best snapshot is taken if FID was measured and the last state if not, or the file of a
    snapshot. An existing model is kept until the new one is complete. Unless `replace`, a model with metrics, or with
    files that no export wrote, is not replaced.
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
    document = describe(recipe, state)
    if not replace:
        model_folder.check_replaceable(models / recipe.id, document)
    record = run if run.is_dir() else run.parent.parent
    return publish(lambda: generator_of(recipe, state), document, models, run=record)


def publish(make: Callable[[], Any], document: dict[str, Any], models: Path, *, run: Path | None = None) -> Path:
    """Write the generator that `make` returns, and its model.json without `files`, to models/<id>/.

    Raises ExportError.

    `run`: the run folder whose record the card shows. Where a check fails, nothing is written.
    """
    folder = models / f".{document['id']}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        generator = make()
        _write_graphs(generator, document, folder)
        for path in folder.glob("*.onnx"):
            onnx.checker.check_model(str(path), full_check=True)
        (folder / "model.json").write_text(json.dumps(document | {"files": _files(folder)}, indent=2) + "\n")
        try:
            runtime = Runtime(load_model(folder))
        except ModelError as error:
            raise ExportError(f"the engine refuses the exported files: {error}") from error
        check(runtime, generator)
        if run is not None:
            card_images.keep_record(run, folder)
        model_card.write(folder)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"the ONNX checker refuses the graph: {error}") from error
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError) and not error.filename:
            error.filename = str(folder)
        raise
    target = models / document["id"]
    model_folder.put(folder, target)
    return target


def check_document(trainer: Trainer) -> None:
    """Hold a run to the rules of model.json before it is trained. Raises DataError."""
    recipe, state = trainer.recipe, checkpoint.snapshot(trainer)
    files = {name: {"sha256": 64 * "0", "size": 1} for name in model_json.GRAPHS[recipe.family]}
    for name in (state["source"]["name"], *(state["classes"] or ())):
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise DataError(f"{name!r} is not a name in UTF-8, and no model can be called so: rename it.")
    text = json.dumps(describe(recipe, state) | {"files": files}, indent=2).encode()
    if len(text) > MAX_DOCUMENT_BYTES // 2:  # metrics come on top
        raise DataError(f"the model's model.json would have {len(text):,} bytes: give classes fewer or shorter names.")
    try:
        model_json.parse(text)
    except model_json.DocumentError as error:
        raise DataError(f"the trained model would be rejected: {error}") from None


def check(runtime: Runtime, generator: Any) -> None:
    """Holds the exported graphs against the torch generator, and every input against its effect. Raises ExportError."""
    model = runtime.model
    # fewer of large images: of 1024 px one takes seconds
    count = max(2, min(PARITY_LATENTS, PARITY_PIXELS // (model.image.height * model.image.width)))
    z = model.latents(address_range(0, 0, count))
    labels = np.arange(count) % len(model.classes) if model.classes else None
    large = model.image.height >= LARGE
    expected = _expected(generator, z, labels, runtime.max_batch)
    for batch in (batch for batch in PARITY_BATCHES if batch <= count):
        slices = [slice(start, start + batch) for start in range(0, count, batch)]
        found = [runtime.generate(z[rows], None if labels is None else labels[rows]) for rows in slices]
        _check_parity(np.concatenate(found), expected, batch, TOLERATED_LARGE if large else TOLERATED)
    if (spread := float(expected.std())) < MIN_SPREAD:
        raise ExportError(f"spread: the pictures vary by {spread:.1f} levels; at least {MIN_SPREAD} is a picture.")
    if len(np.unique(expected.reshape(len(expected), -1), axis=0)) < len(expected):
        raise ExportError("variety: two of the latents gave the same picture.")
    if model.classes:
        _check_labels(runtime, z[0])
    if model.style:
        _check_styles(runtime, z, labels)


def _expected(generator: Any, z: np.ndarray, labels: np.ndarray | None, batch: int) -> np.ndarray:
    """The images of the torch generator, `batch` at a time -> (N, H, W, C) uint8."""
    inputs = [torch.from_numpy(z)] + ([] if labels is None else [torch.from_numpy(labels)])
    with torch.no_grad():
        parts = [to_uint8(generator(*part)) for part in zip(*(each.split(batch) for each in inputs), strict=True)]
    return torch.cat(parts).permute(0, 2, 3, 1).numpy()


def _check_parity(found: np.ndarray, expected: np.ndarray, batch: int, tolerated: float) -> None:
    difference = np.abs(found.astype(int) - expected.astype(int))
    share = float((difference > 0).mean())
    if difference.max() > LEVELS or share > tolerated:
        raise ExportError(
            f"parity at batch {batch}: up to {difference.max()} levels from torch, in {share:.5%} of the values; "
            f"{LEVELS} level in at most {tolerated:.2%} is allowed."
        )


def _check_labels(runtime: Runtime, z: np.ndarray) -> None:
    assert runtime.model.classes is not None
    count = min(len(runtime.model.classes), PARITY_LATENTS)
    pictures = runtime.generate(np.repeat(z[None], count, axis=0), np.arange(count))
    if len(np.unique(pictures.reshape(count, -1), axis=0)) < count:
        raise ExportError("labels: two labels gave the same picture of one latent.")


def _check_styles(runtime: Runtime, z: np.ndarray, labels: np.ndarray | None) -> None:
    style = runtime.model.style
    assert style is not None
    ones = np.ones((len(z), style.layers), np.float32)
    w = runtime.map(z, ones, labels)
    rows = slice(None if style.layers < 16 else 1)  # of 512 px and more one image a layer takes seconds enough
    w, other = w[rows], np.roll(w, 1, axis=0)[rows]
    plain = runtime.synthesize({"w": w})
    for layer in range(style.layers):
        mixed = w.copy()
        mixed[:, layer] = other[:, layer]
        if np.array_equal(runtime.synthesize({"w": mixed}), plain):
            raise ExportError(f"styles: layer {layer} changes no picture.")
    z, labels = z[:8], None if labels is None else labels[:8]
    plain = runtime.generate(z, labels)
    truncated = runtime.generate(z, labels, np.zeros(style.layers, np.float32))
    if (truncated != truncated[:1]).any():
        raise ExportError("truncation: psi 0 must give one picture, whatever the latent.")
    if np.array_equal(runtime.generate(z, labels, np.full(style.layers, 0.5, np.float32)), plain):
        raise ExportError("truncation: psi 0.5 gives the pictures of psi 1.")


class _Pictures(nn.Module):
    """A generator whose output is uint8, so that no caller repeats the conversion and a quarter of the bytes travel."""

    def __init__(self, generator: nn.Module):
        super().__init__()
        self.generator = generator

    def forward(self, *inputs: Tensor) -> Tensor:
        return to_uint8(self.generator(*inputs))


class _Mapping(nn.Module):
    """z (N, Z), psi (N, L), where conditional label (N,) -> ws (N, L, W), towards the mean w that lies in the graph."""

    def __init__(self, mapping: stylegan.Mapping | stylegan2.Mapping):
        super().__init__()
        self.mapping = mapping

    def forward(self, z: Tensor, psi: Tensor, *label: Tensor) -> Tensor:
        return stylegan.truncate(self.mapping(z, *label), self.mapping.w_mean, psi)


def generator_of(recipe: Recipe, state: dict[str, Any]) -> Any:
    """The averaged generator in the state of a run, to be exported."""
    shape = (recipe.network, recipe.data.resolution, state["channels"], len(state["classes"] or ()) or None)
    generator = NETWORKS[recipe.family].Generator(*shape)
    generator.load_state_dict(state["average"])
    return generator.eval().requires_grad_(False)


def _write_graphs(generator: Any, document: dict[str, Any], folder: Path) -> None:
    inputs = {"z": torch.randn(2, document["latent_size"])}
    label = {"label": torch.tensor([0, 0])} if document["classes"] else {}
    if document["style"] is None:
        _write(_Pictures(generator), inputs | label, "image", folder / "generator.onnx")
        return
    inputs |= {"psi": torch.ones(2, document["style"]["layers"])} | label
    mapping = _Mapping(generator.mapping)
    _write(mapping, inputs, "w", folder / "mapping.onnx")
    _write(_Pictures(generator.synthesis), {"w": mapping(*inputs.values())}, "image", folder / "synthesis.onnx")


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}
        for path in sorted(folder.glob("*.onnx"))
    }


def _write(module: nn.Module, inputs: dict[str, Tensor], output: str, path: Path) -> None:
    # The first input names the axis; the others, bound to it by the graph, would only make the exporter warn.
    shapes = [{0: torch.export.Dim("n") if k == 0 else torch.export.Dim.DYNAMIC} for k in range(len(inputs))]
    torch.onnx.export(
        module.eval(),
        tuple(inputs.values()),
        str(path),
        input_names=list(inputs),
        output_names=[output],
        dynamic_shapes=_as_arguments(module, shapes),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    forget_origin(path)


def _as_arguments(module: nn.Module, shapes: list[Any]) -> list[Any]:
    """One entry for each argument of `forward`, of which a starred one is a tuple."""
    named = 0 if isinstance(module, _Pictures) else 2
    return [*shapes[:named], tuple(shapes[named:])] if len(shapes) > named else shapes


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


def style_of(network: NetworkConfig, resolution: int) -> dict[str, Any] | None:
    """The field `style` of model.json; None for a family without styles."""
    if isinstance(network, stylegan.Config):
        groups = stylegan.style_groups(resolution // network.patch)
    elif isinstance(network, stylegan2.Config):
        groups = stylegan2.style_groups(resolution)
    else:
        return None
    return {"layers": sum(map(len, groups.values())), "w_size": network.w_size, **groups}


def describe(recipe: Recipe, state: dict[str, Any]) -> dict[str, Any]:
    """model.json of a run's generator, its files still to be written and its metrics to be measured."""
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
        "style": style_of(recipe.network, recipe.data.resolution),
        "files": {},
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

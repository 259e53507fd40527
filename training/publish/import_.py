"""Checkpoints of elsewhere -> a folder of the model repository, as `export` writes one, and checked as there."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
import torch
from torch import Tensor, nn

from serving.engine.model_json import ID, ID_RULE
from training.errors import CheckpointError
from training.publish import checkpoints, export, model_folder
from training.publish.checkpoints import Checkpoint

UNKNOWN = "unknown"
OPAQUE = {4: 3}  # channels of a network with alpha -> of its images, which are composed on white


@dataclass(frozen=True, kw_only=True)
class About:
    """What the user says of a model; None: nothing."""

    id: str
    name: str | None = None
    licence: str | None = None
    dataset: str | None = None
    dataset_licence: str | None = None
    classes: list[str] | None = None
    noise: Literal["const", "none"] = "const"


def describe(source: Path, about: About, kind: str = "auto") -> str:
    """What is in a file, in lines. Raises CheckpointError."""
    found = _read(source, about, kind)
    classes = f", {found.classes} classes" if found.classes else ""
    colour = {1: "grey", 3: "RGB", 4: "RGBA, composed on white"}[found.channels]
    lines = [
        f"format      {found.format}",
        f"family      {found.family}",
        f"images      {found.resolution} x {found.resolution} {colour}{classes}",
        f"parameters  {found.parameters:,}",
        f"latents     {found.network.latent_size}, {found.latents}",
    ]
    parts = {"mapping": "mapping", "synthesis": "synthesis"} if found.family.startswith("stylegan") else {}
    for name in parts:
        lines.append(f"{name:<12}{sum(p.numel() for p in getattr(found.generator, name).parameters()):,} parameters")
    if style := export.style_of(found.network, found.resolution):
        lines.append(f"styles      {style['layers']} of {style['w_size']}")
    return "\n".join(lines)


def import_checkpoint(source: Path, models: Path, about: About, kind: str = "auto", *, replace: bool = False) -> Path:
    """The generator in `source` -> models/<id>/. Raises CheckpointError and ExportError, and then writes nothing.

    A model that is there stays where it was not imported or would lose metrics, unless `replace`.
    """
    found = _read(source, about, kind)
    document = _document(source, found, about)
    if not replace:
        _check_free(models / about.id)
        model_folder.check_replaceable(models / about.id, document)
    generator = found.generator
    if about.noise == "none" and found.family == "stylegan2":
        for module in generator.modules():
            if hasattr(module, "noise_strength"):
                module.noise_strength.zero_()
    if found.channels in OPAQUE:
        generator.synthesis = _OnWhite(generator.synthesis)
    return export.publish(lambda: generator, document, models)


def _read(source: Path, about: About, kind: str) -> Checkpoint:
    if not re.fullmatch(ID, about.id):
        raise CheckpointError(f"`--id` (={about.id}) must be {ID_RULE}.")
    if kind != "auto" and kind not in checkpoints.FORMATS:
        raise CheckpointError(f"`--format` (={kind}) must be auto, {', '.join(checkpoints.FORMATS)}.")
    found = checkpoints.read(source, kind)
    if about.classes is not None and (len(set(about.classes)), len(about.classes)) != (found.classes,) * 2:
        raise CheckpointError(
            f"`--classes` has {len(set(about.classes))} different names; {source} has {found.classes or 'no'} classes."
        )
    return found


def _check_free(folder: Path) -> None:
    """Raises CheckpointError where an import would replace a model that was not imported."""
    if not folder.exists():
        return
    try:
        imported = "source" in json.loads((folder / "model.json").read_text())["training"]
    except (OSError, ValueError, KeyError, TypeError):
        imported = False
    if not imported:
        raise CheckpointError(f"{folder}: exists and was not imported; choose another `--id`, or give `--replace`.")


def _document(source: Path, found: Checkpoint, about: About) -> dict[str, Any]:
    """model.json, its files still to be written; what is not known is left out."""
    data = source.read_bytes()
    origin = {
        "file": source.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "format": found.format,
        "parameters": found.parameters,
    }
    if found.family == "stylegan2":
        origin["noise"] = about.noise
    versions = {"torch": torch.__version__, "onnx": onnx.__version__}
    if found.recipe is not None and found.state is not None:
        document = export.describe(found.recipe, found.state)
        document["training"]["origin"] = origin
        dataset, classes = document["dataset"], document["classes"]
        training: dict[str, Any] = document["training"]
    else:
        dataset, training = {}, {"source": origin, "versions": versions}
        # "class 3" and not "3": the names of the ten digits would make it a model of digits
        classes = [f"class {k}" for k in range(found.classes)] if found.classes else None
    given = {"name": about.dataset, "licence": about.dataset_licence}
    return {
        "schema_version": 1,
        "id": about.id,
        "name": about.name or about.id,
        "family": found.family,
        "licence": about.licence or UNKNOWN,
        "dataset": dataset | {key: value for key, value in given.items() if value},
        "image": {
            "height": found.resolution,
            "width": found.resolution,
            "channels": OPAQUE.get(found.channels, found.channels),
        },
        "latent_size": found.network.latent_size,
        "latents": found.latents,
        "classes": about.classes or classes,
        "style": export.style_of(found.network, found.resolution),
        "files": {},
        "training": training,
        "metrics": [],
    }


class _OnWhite(nn.Module):
    """Synthesis whose fourth channel is opacity: ws (N, L, W) -> images (N, 3, R, R) composed on white."""

    def __init__(self, synthesis: nn.Module):
        super().__init__()
        self.synthesis = synthesis

    def forward(self, ws: Tensor) -> Tensor:
        x = self.synthesis(ws)
        opacity = (x[:, 3:] * 0.5 + 0.5).clamp(0, 1)
        return x[:, :3].clamp(-1, 1) * opacity + (1 - opacity)

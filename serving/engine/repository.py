"""Model repository: load and verify `models/<id>/model.json` and the ONNX files beside it.

A model whose files do not match its `model.json` is never served; ModelError names the model and the reason.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from serving.engine.directions import parse_directions
from serving.engine.latents import Address, Source, latents
from serving.engine.model_json import DIRECTIONS, DirectionSpec, DocumentError, FileSpec, ImageSpec, StyleSpec, parse

MAX_DOCUMENT_BYTES = 1 << 20  # a model.json has a few kilobytes


class ModelError(Exception):
    """A model or the repository cannot be served. The message has the folder and the reason."""


@dataclass(frozen=True)
class Model:
    """Content of a model.json whose files are verified."""

    folder: Path
    id: str
    name: str
    family: str  # mlp, dcgan, cgan, stylegan or stylegan2
    image: ImageSpec
    latent_size: int  # Z
    latent_source: Source
    classes: tuple[str, ...] | None  # of a conditional model
    style: StyleSpec | None  # of a style model
    sha256: str  # of all its files and `latent_source`: the same hash means the same image for an address
    files: dict[str, FileSpec]
    document: dict[str, Any]  # the parsed model.json
    directions: dict[str, DirectionSpec] = field(default_factory=dict)  # of a style model, by name ...
    vectors: dict[str, np.ndarray] = field(default_factory=dict, compare=False)  # ... and their vectors (W,) float32

    def latents(self, addresses: Sequence[Address] | np.ndarray) -> np.ndarray:
        """Return the latents (N, Z) float32 of addresses, or of seeds and indices (N, 2) uint64."""
        return latents(addresses, self.latent_size, self.latent_source)

    def read(self, name: str) -> bytes:
        """Return the verified bytes of one file; these are the bytes that were hashed. Raises ModelError."""
        return _read_verified(self.folder, name, self.files[name])


def load_repository(folder: str | Path) -> dict[str, Model]:
    """Return all models in `folder` by id, sorted. Raises ModelError if one is invalid or there is none."""
    root = Path(folder)
    try:
        paths = sorted(root.iterdir())
    except OSError as error:
        raise ModelError(f"{root}: cannot be read as a model repository: {error.strerror}.") from None
    models = {}
    for path in paths:
        if path.name.startswith(".") or not path.is_dir():
            continue
        if not _inside(path, root):
            raise ModelError(f"{path}: is a link to a folder outside the repository {root}.")
        model = load_model(path)
        if model.id != path.name:
            raise ModelError(f"{path}: `id` (={model.id}) in `model.json` must be the folder's name.")
        models[model.id] = model
    if not models:
        raise ModelError(f"{root}: contains no model; a model is a folder with a `model.json` and its ONNX files.")
    return models


def load_model(folder: str | Path) -> Model:
    """Load one model and verify the size and sha256 of every file it names. Raises ModelError."""
    folder = Path(folder)
    try:
        document, spec = parse(_read(folder, "model.json", MAX_DOCUMENT_BYTES))
    except DocumentError as error:
        raise ModelError(f"{folder}: `model.json`: {error}") from None
    vectors: dict[str, np.ndarray] = {}
    for name, file in spec.files.items():
        data = _read_verified(folder, name, file)
        if name != DIRECTIONS or spec.style is None:
            continue
        try:
            vectors = parse_directions(data, spec.directions, spec.style.w_size)
        except ValueError as error:
            raise ModelError(f"{folder}: `{DIRECTIONS}` {error}.") from None
    return Model(
        folder=folder,
        id=spec.id,
        name=spec.name,
        family=spec.family,
        image=spec.image,
        latent_size=spec.latent_size,
        latent_source=spec.latents,
        classes=spec.classes,
        style=spec.style,
        sha256=_combined_sha256(spec.files, spec.latents),
        files=spec.files,
        document=document,
        directions={each.name: each for each in spec.directions},
        vectors=vectors,
    )


def _combined_sha256(files: dict[str, FileSpec], source: Source) -> str:
    lines = "".join(f"{name} {files[name].sha256}\n" for name in sorted(files))
    lines += "" if source == "philox" else f"latents {source}\n"
    return hashlib.sha256(lines.encode()).hexdigest()


def _read_verified(folder: Path, name: str, file: FileSpec) -> bytes:
    data = _read(folder, name, file.size)
    if len(data) < file.size:
        raise ModelError(f"{folder}: `{name}` has {len(data)} bytes; `model.json` requires {file.size}.")
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise ModelError(f"{folder}: `{name}` has sha256 {found}; `model.json` requires {file.sha256}.")
    return data


def _inside(path: Path, folder: Path) -> bool:
    """Return True if `path` is in `folder` after links are resolved."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _read(folder: Path, name: str, limit: int) -> bytes:
    """Return the bytes of a regular file in the model's folder, links resolved; at most `limit`."""
    path = folder / name
    if not _inside(path, folder):
        raise ModelError(f"{folder}: `{name}` is a link to a file outside the model's folder.")
    try:
        if not path.is_file():
            raise ModelError(f"{folder}: has no file `{name}`.")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ModelError(f"{folder}: `{name}` cannot be read: {error.strerror}.") from None
    if len(data) > limit:
        raise ModelError(f"{folder}: `{name}` has more than {limit} bytes.")
    return data

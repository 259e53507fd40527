"""Encode the images of a plan as one file: an image, a grid, an animation, a zip, an array, or JSON.

Response bodies and output files of the command line use the same code. The formats are png, jpeg, webp, gif, zip, npy
and json.

The tEXt chunks of a single-image PNG hold `model` and `model_sha256`, the address as `seed` and `index`, and `label`,
`truncation` and `edits` where they apply. Therefore one image at one scale gives the same PNG bytes from every source:
a single request, its URL, a zip or JSON. The PNG of a grid holds only `model` and `model_sha256`.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving import __version__
from serving.engine import images
from serving.engine.directions import Edit
from serving.engine.generation import Plan, RequestError
from serving.engine.png import png

ONE_IMAGE = ("png", "jpeg", "webp", "gif")
"""Formats that hold all images of a plan in one grid or one animation."""

ANIMATIONS = ("gif", "webp")
"""Formats that can be animated."""

PIECES = ("npy", "zip", "json")
"""Formats that are written image by image."""


@dataclass(frozen=True)
class Animation:
    fps: int
    loop: bool  # repeat forever, or play once


@dataclass(frozen=True)
class Layout:
    """Arrangement of the images of a plan in the output."""

    columns: int  # of the grid, without the sources of a style mix
    scale: int = 1
    animation: Animation | None = None

    def is_grid(self, format: str) -> bool:
        """Return True if the output is a grid, and not separate images or an animation."""
        return format in ONE_IMAGE and not (self.animation and format in ANIMATIONS)


def check_size(plan: Plan, layout: Layout, format: str) -> None:
    """Raise RequestError if a side is longer than the format allows."""
    width, height = _size(plan, layout, format)
    if format in ONE_IMAGE and max(width, height) > images.MAX_SIDE[format]:
        found = f"`scale` (={layout.scale}) and `columns` (={layout.columns}) make {width} x {height} pixels"
        raise RequestError("/columns", f"{found}; a side in {format} must be at most {images.MAX_SIDE[format]}.")


def pixel_bytes(plan: Plan, layout: Layout, format: str) -> int:
    """Return the size of the uncompressed pixels of a response, in bytes."""
    width, height = _size(plan, layout, format)
    return width * height * plan.model.image.channels * (1 if layout.is_grid(format) else len(plan))


def _size(plan: Plan, layout: Layout, format: str) -> tuple[int, int]:
    """Return width and height of the grid, or of each image if there is no grid."""
    spec, columns, rows = plan.model.image, 1, 1
    if layout.is_grid(format):
        edge = 0 if plan.sources is None else 1
        columns, rows = layout.columns + edge, -(-len(plan) // layout.columns) + edge
    scale = 1 if format == "npy" else layout.scale
    return columns * spec.width * scale, rows * spec.height * scale


def encode(plan: Plan, pixels: np.ndarray, sources: np.ndarray | None, layout: Layout, format: str) -> bytes:
    """Return the images of `plan`, pixels (N, H, W, C), as the bytes of a file.

    `sources` are the pixels of the source images, for a style mix in a format of ONE_IMAGE.
    """
    if format in PIECES:
        return b"".join(pieces(plan, pixels, layout, format))
    pixels = images.enlarge(pixels, layout.scale)
    if layout.animation and format in ANIMATIONS:
        animate = images.gif if format == "gif" else images.webp_animation
        return animate(pixels, fps=layout.animation.fps, loop=layout.animation.loop)
    if sources is not None:
        sources = images.enlarge(sources, layout.scale)
        rows = len(sources) - layout.columns
        image = images.mix_grid(pixels, sources[:rows], sources[rows:])
    else:
        image = pixels[0] if len(pixels) == 1 == layout.columns else images.grid(pixels, layout.columns)
    if format == "png":
        return png(image, _text(plan, 0) if len(plan) == 1 and sources is None else _text(plan))
    return {"jpeg": images.jpeg, "webp": images.webp}[format](image)


def pieces(plan: Plan, pixels: np.ndarray, layout: Layout, format: str) -> Iterator[bytes | memoryview]:
    """Yield a file in a format of PIECES, about one piece for each image, to limit memory."""
    if format == "npy":
        return images.npy(pixels)
    pngs = (png(images.enlarge(image[None], layout.scale)[0], _text(plan, i)) for i, image in enumerate(pixels))
    return images.archive(pngs, _manifest(plan)) if format == "zip" else _json(plan, pngs)


def _text(plan: Plan, position: int | None = None) -> dict[str, str]:
    """Return the tEXt entries of the PNG of the image at `position`, or of a grid."""
    text = {"model": plan.model.id, "model_sha256": plan.model.sha256}
    if position is None:
        return text
    if (address := plan.addresses[position]) is not None:
        text |= {"seed": str(address.seed), "index": str(address.index)}
    if plan.labels is not None:
        text["label"] = str(plan.labels[position])
    if plan.truncation is not None:
        text["truncation"] = str(plan.truncation)
    if plan.edits:
        text["edits"] = json.dumps(_edits(plan.edits))
    return text


def _manifest(plan: Plan) -> dict[str, Any]:
    entries = [{"file": images.file_name(i), **where} for i, where in enumerate(_where(plan))]
    return {**_origin(plan), "images": entries}


def _json(plan: Plan, pngs: Iterable[bytes]) -> Iterator[bytes]:
    head = json.dumps({**_origin(plan), "images": []}, ensure_ascii=False)
    yield head.removesuffix("]}").encode()
    for i, (data, where) in enumerate(zip(pngs, _where(plan), strict=True)):
        entry = {**where, "png": base64.b64encode(data).decode()}
        yield (", " if i else "").encode() + json.dumps(entry, ensure_ascii=False).encode()
    yield b"]}"


def _origin(plan: Plan) -> dict[str, Any]:
    origin: dict[str, Any] = {"model": plan.model.id, "model_sha256": plan.model.sha256, "version": __version__}
    if plan.truncation is not None:
        origin["truncation"] = plan.truncation
    return {**origin, "edits": _edits(plan.edits)} if plan.edits else origin


def _edits(edits: Any) -> Any:
    """Return edits, or one list of edits for each keyframe, in the form of a request."""
    if not isinstance(edits, Edit):
        return [_edits(each) for each in edits]
    layers = {} if edits.layers is None else {"layers": list(edits.layers)}
    return {"direction": edits.direction, "strength": edits.strength, **layers}


def _where(plan: Plan) -> list[dict[str, Any]]:
    """Return the address of each image (null if it has none) and its class in a conditional model."""
    entries: list[dict[str, Any]] = []
    for i, address in enumerate(plan.addresses):
        entry: dict[str, Any] = {"seed": address and address.seed, "index": address and address.index}
        if plan.labels is not None and plan.model.classes is not None:
            entry |= {"label": plan.labels[i], "class": plan.model.classes[plan.labels[i]]}
        entries.append(entry)
    return entries

"""The pictures of a plan as one file: a picture or a grid of them, an animation, a zip, an array, or JSON.

What a reply's body and an output file of the command line have in common. Formats go by name: png, jpeg, webp, gif,
zip, npy and json.

A PNG of one picture says in tEXt chunks what made it: `model` and `model_sha256`, its address as `seed` and `index`,
and `label`, `truncation` and `edits` where it has them. So it is the same bytes wherever the same picture was asked for
as a PNG of its own at the same scale: alone, by its URL, in a zip or in JSON. A grid says `model` and `model_sha256`.
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

ONE_PICTURE = ("png", "jpeg", "webp", "gif")
"""The formats that show all pictures of a plan as one, or one after another."""

ANIMATIONS = ("gif", "webp")
"""Those that show one after another, where that is asked for."""

PIECES = ("npy", "zip", "json")
"""The formats that are written picture by picture."""


@dataclass(frozen=True)
class Animation:
    fps: int
    loop: bool  # for ever, or once


@dataclass(frozen=True)
class Layout:
    """How the pictures of a plan are shown together."""

    columns: int  # of the grid, without the sources of a style mix
    scale: int = 1
    animation: Animation | None = None

    def is_grid(self, format: str) -> bool:
        """Whether the pictures are side by side, and not each by itself or one after another."""
        return format in ONE_PICTURE and not (self.animation and format in ANIMATIONS)


def check_size(plan: Plan, layout: Layout, format: str) -> None:
    """Raises RequestError where a side passes what the format can hold."""
    width, height = _size(plan, layout, format)
    if format in ONE_PICTURE and max(width, height) > images.MAX_SIDE[format]:
        found = f"`scale` (={layout.scale}) and `columns` (={layout.columns}) make {width} x {height} pixels"
        raise RequestError("/columns", f"{found}; a side in {format} must be at most {images.MAX_SIDE[format]}.")


def pixel_bytes(plan: Plan, layout: Layout, format: str) -> int:
    """All pixels of a reply, one byte a channel, before they are packed."""
    width, height = _size(plan, layout, format)
    return width * height * plan.model.image.channels * (1 if layout.is_grid(format) else len(plan))


def _size(plan: Plan, layout: Layout, format: str) -> tuple[int, int]:
    """Width and height of the grid, or else of each picture."""
    spec, columns, rows = plan.model.image, 1, 1
    if layout.is_grid(format):
        edge = 0 if plan.sources is None else 1
        columns, rows = layout.columns + edge, -(-len(plan) // layout.columns) + edge
    scale = 1 if format == "npy" else layout.scale
    return columns * spec.width * scale, rows * spec.height * scale


def encode(plan: Plan, pictures: np.ndarray, sources: np.ndarray | None, layout: Layout, format: str) -> bytes:
    """pictures (N, H, W, C) of `plan` and, for a style mix as ONE_PICTURE, those of its sources -> a file."""
    if format in PIECES:
        return b"".join(pieces(plan, pictures, layout, format))
    pictures = images.enlarge(pictures, layout.scale)
    if layout.animation and format in ANIMATIONS:
        animate = images.gif if format == "gif" else images.webp_animation
        return animate(pictures, fps=layout.animation.fps, loop=layout.animation.loop)
    if sources is not None:
        sources = images.enlarge(sources, layout.scale)
        rows = len(sources) - layout.columns
        picture = images.mix_grid(pictures, sources[:rows], sources[rows:])
    else:
        picture = pictures[0] if len(pictures) == 1 == layout.columns else images.grid(pictures, layout.columns)
    if format == "png":
        return png(picture, _text(plan, 0) if len(plan) == 1 and sources is None else _text(plan))
    return {"jpeg": images.jpeg, "webp": images.webp}[format](picture)


def pieces(plan: Plan, pictures: np.ndarray, layout: Layout, format: str) -> Iterator[bytes | memoryview]:
    """`encode` in PIECES: a piece for about every picture, so that they are not all in memory as they are packed."""
    if format == "npy":
        return images.npy(pictures)
    pngs = (png(images.enlarge(picture[None], layout.scale)[0], _text(plan, i)) for i, picture in enumerate(pictures))
    return images.archive(pngs, _manifest(plan)) if format == "zip" else _json(plan, pngs)


def _text(plan: Plan, position: int | None = None) -> dict[str, str]:
    """What a PNG says of itself: of the picture at `position`, or of pictures together."""
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
    for i, (picture, where) in enumerate(zip(pngs, _where(plan), strict=True)):
        entry = {**where, "png": base64.b64encode(picture).decode()}
        yield (", " if i else "").encode() + json.dumps(entry, ensure_ascii=False).encode()
    yield b"]}"


def _origin(plan: Plan) -> dict[str, Any]:
    origin: dict[str, Any] = {"model": plan.model.id, "model_sha256": plan.model.sha256, "version": __version__}
    if plan.truncation is not None:
        origin["truncation"] = plan.truncation
    return {**origin, "edits": _edits(plan.edits)} if plan.edits else origin


def _edits(edits: Any) -> Any:
    """Edits, or a list of them for each keyframe, as a request has them."""
    if not isinstance(edits, Edit):
        return [_edits(each) for each in edits]
    layers = {} if edits.layers is None else {"layers": list(edits.layers)}
    return {"direction": edits.direction, "strength": edits.strength, **layers}


def _where(plan: Plan) -> list[dict[str, Any]]:
    """The address of each picture, null where it has none, and its class in a conditional model."""
    entries: list[dict[str, Any]] = []
    for i, address in enumerate(plan.addresses):
        entry: dict[str, Any] = {"seed": address and address.seed, "index": address and address.index}
        if plan.labels is not None and plan.model.classes is not None:
            entry |= {"label": plan.labels[i], "class": plan.model.classes[plan.labels[i]]}
        entries.append(entry)
    return entries

"""Renders the critters set: DiceBear's `critters` avatars (art CC0), coarse to fine structure separate by construction.

Image i is a pure function of the seed "critter-<i>", the same pixels every time, so the set has no end: training
images are 0 .. N-1 and held-out ones begin at `HELD_OUT`.
"""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from functools import cache
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image
from tqdm import tqdm

from training import files

SIZE = 64
HELD_OUT = 10_000_000  # first index of the images no training sees
LICENCE = "CC0 1.0"
SOURCE = "DiceBear critters 10.6.0"
OPTIONS = {
    "size": SIZE,
    "animationVariant": "none",
    "flip": ["none", "horizontal"],
    "rotate": [-6, 6],
    "scale": [0.88, 1.0],
    "translateX": [-6, 6],
}
ATTRIBUTES = {  # of every image: the option of the avatar that says it
    "body": "bodyVariant",
    "top": "topVariant",
    "eyes": "eyesVariant",
    "mouth": "mouthVariant",
    "pattern": "patternVariant",
    "background colour": "backgroundColor",
    "body colour": "bodyColor",
}
ABSENT = "none"  # a critter may have no top and no pattern
MIRRORED = {"lean": "tilt"}  # as critters are flipped at random, one body: only the side of a faint shadow differs


def render(index: int) -> np.ndarray:
    """Image `index` -> (64, 64, 3) uint8."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=_avatar(index).to_string(), width=SIZE, height=SIZE, skip_system_fonts=True)
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


@cache
def attribute_values() -> dict[str, tuple[str, ...]]:
    """The values that each attribute may have, by the attribute's name."""
    definition = _definition()
    values = {}
    for name, option in ATTRIBUTES.items():
        if option.endswith("Color"):
            values[name] = tuple(definition["colors"][option.removesuffix("Color")]["values"])
        else:
            component = definition["components"][option.removesuffix("Variant")]
            told_apart = (variant for variant in component["variants"] if variant not in MIRRORED)
            values[name] = (*told_apart, *([ABSENT] if component.get("probability", 100) < 100 else []))
    return values


@cache
def vocabulary() -> str:
    """Eight hexadecimal digits for `attribute_values`, in the names of files that mean nothing without them."""
    return f"{crc32(json.dumps(attribute_values()).encode()):08x}"


def attributes(index: int) -> np.ndarray:
    """What image `index` shows -> (7,) int64: of each of ATTRIBUTES, which of its `attribute_values`."""
    options = _avatar(index).to_json()["options"]
    found = []
    for name, option in ATTRIBUTES.items():
        value = options.get(option, ABSENT)
        value = value[0] if isinstance(value, list) else value
        found.append(attribute_values()[name].index(MIRRORED.get(value, value)))
    return np.array(found)


def render_range(start: int, count: int, *, progress: bool = True) -> np.ndarray:
    """Images start .. start+count-1, in parallel over the cores this process may use -> (count, 64, 64, 3) uint8."""
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    _fill(images, render, start, "rendering critters", progress)
    return images


def cached(folder: Path, split: str, count: int) -> np.ndarray:
    """The first `count` of "train" or "test", rendered once into `folder` -> (count, 64, 64, 3) uint8."""
    return _cached(folder / f"critters-{SIZE}-{split}-{count}.npy", lambda: render_range(_first(split), count))


def cached_attributes(folder: Path, split: str, count: int) -> np.ndarray:
    """The attributes of the same images, found once and kept in `folder` -> (count, 7) int64."""

    def find() -> np.ndarray:
        found = np.empty((count, len(ATTRIBUTES)), np.int64)
        _fill(found, attributes, _first(split), "attributes of critters", True)
        return found

    return _cached(folder / f"critters-attributes-{vocabulary()}-{split}-{count}.npy", find)


def _first(split: str) -> int:
    return 0 if split == "train" else HELD_OUT


def _fill(rows: np.ndarray, make: Callable[[int], np.ndarray], start: int, label: str, progress: bool) -> None:
    """rows[i] = make(start + i), in parallel."""
    count = len(rows)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Spawned, not forked: the parent may hold threads (torch, CUDA) that do not survive a fork.
    # They leave Ctrl-C, which a terminal sends to all, to the parent: a signal that is ignored stays so in a child.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        started = multiprocessing.get_context("spawn").Pool(min(workers, max(1, count // 64)))
    finally:
        signal.signal(signal.SIGINT, handler)
    with started as pool:
        made = pool.imap(make, range(start, start + count), chunksize=32)
        for i, row in enumerate(tqdm(made, label, count, unit="img", disable=not progress)):
            rows[i] = row


def _cached(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_npy(path, make())
    return np.load(path)


def _avatar(index: int) -> Any:
    style = _style()
    from dicebear import Avatar

    return Avatar(style, {"seed": f"critter-{index}", **OPTIONS})


@cache
def _style() -> Any:
    """The parsed style, once a process."""
    definition = _definition()
    from dicebear import Style

    return Style(definition)


def _definition() -> dict[str, Any]:
    try:
        return json.loads((resources.files("dicebear_styles") / "critters.json").read_text())
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the critters set needs the package {error.name!r}: install `ganymede[train]`."
        ) from error

"""Renders the critters set: DiceBear's `critters` avatars (art CC0), coarse to fine structure separate by construction.

Picture i is a pure function of the seed "critter-<i>", the same pixels every time, so the set has no end: training
pictures are 0 .. N-1 and held-out ones begin at `HELD_OUT`.
"""

import json
import multiprocessing
import os
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

SIZE = 64
HELD_OUT = 10_000_000  # first index of the pictures no training sees
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


def render(index: int) -> np.ndarray:
    """Picture `index` -> (64, 64, 3) uint8."""
    import resvg_py
    from dicebear import Avatar

    svg = Avatar(_style(), {"seed": f"critter-{index}", **OPTIONS}).to_string()
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, skip_system_fonts=True)
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def render_range(start: int, count: int, *, progress: bool = True) -> np.ndarray:
    """Pictures start .. start+count-1, in parallel over the cores this process may use -> (count, 64, 64, 3) uint8."""
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Spawned, not forked: the parent may hold threads (torch, CUDA) that do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(min(workers, max(1, count // 64))) as pool:
        rendered = pool.imap(render, range(start, start + count), chunksize=32)
        for i, image in enumerate(tqdm(rendered, "rendering critters", count, unit="img", disable=not progress)):
            images[i] = image
    return images


def cached(folder: Path, split: str, count: int) -> np.ndarray:
    """The first `count` of "train" or "test", rendered once into `folder` -> (count, 64, 64, 3) uint8."""
    path = folder / f"critters-{SIZE}-{split}-{count}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        images = render_range(0 if split == "train" else HELD_OUT, count)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, images)
        partial.replace(path)  # whole or not at all
    return np.load(path)


_STYLE = None


def _style():
    """The parsed style, once a process."""
    global _STYLE
    if _STYLE is None:
        try:
            from dicebear import Style
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"the critters set needs the package {error.name!r}: install `ganymede[train]`."
            ) from error
        _STYLE = Style(json.loads((files("dicebear_styles") / "critters.json").read_text()))
    return _STYLE

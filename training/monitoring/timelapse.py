"""A run's grids as one moving image."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from serving.engine import images

T = TypeVar("T")

FRAMES = 60  # at most: what a page can carry
FPS = 4
HOLD = 2 * FPS  # frames that the last grid stays


def timelapse(grids: Sequence[Path]) -> bytes:
    """PNGs of grids, oldest first, at least one -> an endless GIF of up to FRAMES of them.

    Grids of a network that grew are enlarged to the size of the last one by whole pixels.
    """
    with Image.open(grids[-1]) as last:
        size = last.size
    frames = [_read(path, size) for path in spread(grids, FRAMES)]
    return images.gif(np.stack(frames + frames[-1:] * HOLD), fps=FPS, loop=True)


def spread(items: Sequence[T], count: int) -> list[T]:
    """Up to `count` of the items at even distances, the first and the last among them."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]


def _read(path: Path, size: tuple[int, int]) -> np.ndarray:
    """-> (H, W, C) uint8."""
    with Image.open(path) as grid:
        pixels = np.asarray(grid.resize(size, Image.Resampling.NEAREST))
    return pixels[..., None] if pixels.ndim == 2 else pixels

"""Enlarge images, arrange them in grids, and encode them in every response format except PNG (see png.py).

Images are uint8 arrays: `images` is (N, H, W, C) and `image` is (H, W, C), with C = 1 (grey, kept where the format
allows it) or 3 (RGB). The same pixels give the same bytes.
"""

import io
import json
import math
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

# Longest side of each format: 31 bits in PNG, 14 bits in WebP, and slightly below 16 bits in libjpeg.
MAX_SIDE = {"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383, "gif": 65_535}

WHITE = 255
JPEG_QUALITY = 95
PIECE_BYTES = 2**18  # of an npy file


def enlarge(images: np.ndarray, scale: int) -> np.ndarray:
    """Repeat each pixel scale x scale times: images (N, H, W, C) -> (N, H * scale, W * scale, C)."""
    return images if scale == 1 else images.repeat(scale, axis=1).repeat(scale, axis=2)


def square_columns(n: int) -> int:
    """Return the number of columns of the most square grid of `n` images: 1 for 1, 3 for 5 to 9."""
    return math.isqrt(n - 1) + 1


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Arrange images in a grid, row by row, without gaps. Unused cells are white.

    images (N, H, W, C) -> (rows * H, columns * W, C).
    """
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    cells = np.full((rows * columns, height, width, channels), WHITE, np.uint8)
    cells[:n] = images
    cells = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)  # (rows, H, columns, W, C)
    return cells.reshape(rows * height, columns * width, channels)


def mix_grid(mixes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Arrange a style mix as in Karras et al. (2019): sources along the left and top edges, a white corner.

    mixes (R * C, H, W, channels), row by row; rows (R, H, W, channels); columns (C, H, W, channels)
    -> ((R + 1) * H, (C + 1) * W, channels).
    """
    cells = np.full((len(rows) + 1, len(columns) + 1, *mixes.shape[1:]), WHITE, np.uint8)
    cells[0, 1:] = columns
    cells[1:, 0] = rows
    cells[1:, 1:] = mixes.reshape(len(rows), len(columns), *mixes.shape[1:])
    return grid(cells.reshape(-1, *mixes.shape[1:]), len(columns) + 1)


def jpeg(image: np.ndarray) -> bytes:
    """Encode as JPEG, quality 95, without chroma subsampling, which would blur small images."""
    return _pillow(image, "JPEG", quality=JPEG_QUALITY, subsampling=0)


def webp(image: np.ndarray) -> bytes:
    """Encode as lossless WebP. WebP has no grey: 1 channel becomes three equal ones."""
    return _pillow(image, "WEBP", lossless=True, method=0)


def gif(frames: np.ndarray, *, fps: int, loop: bool) -> bytes:
    """Encode as an animated GIF that plays once or forever. GIF counts hundredths of a second: 24 `fps` become 25.

    Each RGB frame gets its own palette of 256 colours, without dithering, which would flicker. Consecutive equal frames
    are merged into one longer frame.
    """
    duration = 10 * max(1, round(100 / fps))
    pillow_frames = [as_pillow(frame) for frame in frames]
    if frames.shape[-1] == 3:
        pillow_frames = [
            frame.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for frame in pillow_frames
        ]
    return _animation(pillow_frames, "GIF", duration=duration, loop=loop, optimize=False)


def webp_animation(frames: np.ndarray, *, fps: int, loop: bool) -> bytes:
    """Encode as a lossless animated WebP that plays once or forever."""
    pillow_frames = [as_pillow(frame) for frame in frames]
    return _animation(pillow_frames, "WEBP", duration=round(1000 / fps), loop=loop, lossless=True, method=0)


def archive(pngs: Iterable[bytes], manifest: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the pieces of a zip with `manifest.json` and the PNGs, named by `file_name`. Entries have no dates."""
    buffer = _Unsent()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        file.writestr(zipfile.ZipInfo("manifest.json"), text, zipfile.ZIP_DEFLATED)
        for position, png in enumerate(pngs):
            yield buffer.take()
            file.writestr(zipfile.ZipInfo(file_name(position)), png)
    yield buffer.take()


class _Unsent(io.BytesIO):
    """Buffer that releases written data but keeps the current entry, whose header zipfile still updates."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    def take(self) -> bytes:
        """Return the data written since the last call."""
        content = self.getvalue()
        self._taken += len(content)
        super().seek(0)
        self.truncate()
        return content

    def tell(self) -> int:
        return self._taken + super().tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._taken + super().seek(offset - self._taken if whence == io.SEEK_SET else offset, whence)


def file_name(position: int) -> str:
    """Return the name in the zip of the image at `position`: "000.png"."""
    return f"{position:03}.png"


def npy(images: np.ndarray) -> Iterator[bytes | memoryview]:
    """Yield the pieces of an npy file, (N, H, W, C) uint8, without a copy."""
    yield _npy_header(images.shape)
    data = np.ascontiguousarray(images).reshape(-1).data
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]


def npy_bytes(images: np.ndarray) -> int:
    """Return the size of the output of `npy`, in bytes."""
    return len(_npy_header(images.shape)) + images.nbytes


@lru_cache(64)
def _npy_header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def as_pillow(image: np.ndarray) -> Image.Image:
    """Convert (H, W, C) uint8 to a Pillow image, grey or RGB."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _pillow(image: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    as_pillow(image).save(buffer, kind, **options)
    return buffer.getvalue()


def _animation(frames: list[Image.Image], kind: str, *, duration: int, loop: bool, **options: Any) -> bytes:
    """Encode an animation. `duration`: milliseconds for each frame."""
    if loop:
        options["loop"] = 0  # forever; a GIF without a count plays once
    elif kind == "WEBP":
        options["loop"] = 1
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=duration, **options)
    return buffer.getvalue()

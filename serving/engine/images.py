"""Pictures to bytes: enlarging, grids, and every format a reply may have but PNG, which is in png.py.

Pictures are uint8 arrays: `images` is (N, H, W, C) and `image` is (H, W, C), with C 1 (grey, and it stays grey where
the format can) or 3 (RGB). The same pixels give the same bytes.
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

# The longest side each format can hold: a PNG's is 31 bits, a WebP's 14, and libjpeg stops short of 16.
MAX_SIDE = {"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383, "gif": 65_535}

WHITE = 255
JPEG_QUALITY = 95
PIECE_BYTES = 2**18  # of an array


def enlarge(images: np.ndarray, scale: int) -> np.ndarray:
    """Every pixel becomes scale x scale pixels. images (N, H, W, C) -> (N, H * scale, W * scale, C)."""
    return images if scale == 1 else images.repeat(scale, axis=1).repeat(scale, axis=2)


def square_columns(n: int) -> int:
    """The width of the grid of `n` pictures that is nearest to square: 1 for 1, 3 for 5 to 9."""
    return math.isqrt(n - 1) + 1


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Pictures side by side, row by row, without gaps; cells left over are white.

    images (N, H, W, C) -> (rows * H, columns * W, C).
    """
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    cells = np.full((rows * columns, height, width, channels), WHITE, np.uint8)
    cells[:n] = images
    cells = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)  # (rows, H, columns, W, C)
    return cells.reshape(rows * height, columns * width, channels)


def mix_grid(mixes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The style-mixing figure of Karras et al. (2019): sources along the left and top edges, the corner white.

    mixes (R * C, H, W, channels), row by row; rows (R, H, W, channels); columns (C, H, W, channels)
    -> ((R + 1) * H, (C + 1) * W, channels).
    """
    cells = np.full((len(rows) + 1, len(columns) + 1, *mixes.shape[1:]), WHITE, np.uint8)
    cells[0, 1:] = columns
    cells[1:, 0] = rows
    cells[1:, 1:] = mixes.reshape(len(rows), len(columns), *mixes.shape[1:])
    return grid(cells.reshape(-1, *mixes.shape[1:]), len(columns) + 1)


def jpeg(image: np.ndarray) -> bytes:
    """A JPEG of quality 95 without chroma subsampling, which would smear pictures this small."""
    return _pillow(image, "JPEG", quality=JPEG_QUALITY, subsampling=0)


def webp(image: np.ndarray) -> bytes:
    """A lossless WebP. WebP has no grey: 1 channel becomes three equal ones."""
    return _pillow(image, "WEBP", lossless=True, method=0)


def gif(frames: np.ndarray, *, fps: int, loop: bool) -> bytes:
    """An animated GIF, shown once or for ever. GIF counts hundredths of a second: 24 `fps` become 25.

    RGB frames get a palette of their 256 commonest colours each, without dithering, which would flicker. Frames that
    equal the one before are shown as one that lasts longer.
    """
    duration = 10 * max(1, round(100 / fps))
    pictures = [as_pillow(frame) for frame in frames]
    if frames.shape[-1] == 3:
        pictures = [picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for picture in pictures]
    return _animation(pictures, "GIF", duration=duration, loop=loop, optimize=False)


def webp_animation(frames: np.ndarray, *, fps: int, loop: bool) -> bytes:
    """A lossless animated WebP, shown once or for ever."""
    pictures = [as_pillow(frame) for frame in frames]
    return _animation(pictures, "WEBP", duration=round(1000 / fps), loop=loop, lossless=True, method=0)


def archive(pngs: Iterable[bytes], manifest: Mapping[str, Any]) -> Iterator[bytes]:
    """A zip of `manifest.json` and the PNGs, named as `file_name` says, piece by piece. Without dates."""
    buffer = _Unsent()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        file.writestr(zipfile.ZipInfo("manifest.json"), text, zipfile.ZIP_DEFLATED)
        for position, png in enumerate(pngs):
            yield buffer.take()
            file.writestr(zipfile.ZipInfo(file_name(position)), png)
    yield buffer.take()


class _Unsent(io.BytesIO):
    """A file of which all but the end was taken away: where an entry is written, its head is still there to be set."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    def take(self) -> bytes:
        """What was written since the last time."""
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
    """The name in the zip of the picture at `position`: "000.png"."""
    return f"{position:03}.png"


def npy(images: np.ndarray) -> Iterator[bytes | memoryview]:
    """NumPy's own format, (N, H, W, C) uint8, piece by piece and without a copy."""
    yield _npy_header(images.shape)
    data = np.ascontiguousarray(images).reshape(-1).data
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]


def npy_bytes(images: np.ndarray) -> int:
    """How long `npy` is."""
    return len(_npy_header(images.shape)) + images.nbytes


@lru_cache(64)
def _npy_header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def as_pillow(image: np.ndarray) -> Image.Image:
    """(H, W, C) uint8 -> Pillow's, grey or RGB."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _pillow(image: np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    as_pillow(image).save(buffer, kind, **options)
    return buffer.getvalue()


def _animation(pictures: list[Image.Image], kind: str, *, duration: int, loop: bool, **options: Any) -> bytes:
    """`duration` is milliseconds a frame."""
    if loop:
        options["loop"] = 0  # for ever; a GIF without a count plays once
    elif kind == "WEBP":
        options["loop"] = 1
    buffer = io.BytesIO()
    pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:], duration=duration, **options)
    return buffer.getvalue()

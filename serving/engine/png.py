"""Pictures to PNG, in a seventh of the time Pillow takes for a small one. The same pixels give the same bytes.

Compression is zlib-ng's, whose matches do not depend on the processor: its code for each kind only compares and sums
faster (insert_string.c and deflate_quick.c of zlib-ng 2.3).
"""

import struct
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from zlib_ng import zlib_ng

NO_FILTER, UP_FILTER = 0, 2  # PNG specification, table 9.1
# Level 2 packs faster than zlib's level 3, and smaller. Level 1, with the format's own codes, packs a 28x28 digit in a
# quarter of the time and 5 % more bytes; of larger pictures it makes a third more.
LEVEL, LEVEL_SMALL = 2, 1
SMALL = 1024  # bytes before compression


def png(image: np.ndarray, text: Mapping[str, str] | None = None) -> bytes:
    """(H, W, C) uint8, grey or RGB, with `text` as tEXt chunks: Latin-1, keywords of 1 to 79 characters."""
    texts = [_chunk(b"tEXt", f"{keyword}\0{value}".encode("latin-1")) for keyword, value in (text or {}).items()]
    return _file(image.shape, _filtered(image[None])[0], *texts)


def pngs(images: np.ndarray) -> list[bytes]:
    """`png` of each of (N, H, W, C), in less time."""
    return [_file(images.shape[1:], rows) for rows in _filtered(images)]


def _filtered(images: np.ndarray) -> np.ndarray:
    """What is compressed: each row of pixels behind its filter. (N, H, W, C) -> (N, H * (1 + W * C))."""
    n, height, width, channels = images.shape
    rows = images.reshape(n, height, width * channels)
    filtered = np.empty((n, height, 1 + width * channels), np.uint8)
    # Differences to the row above halve what RGB takes; a digit's grey is smaller as it is.
    filtered[:, :, 0] = NO_FILTER if channels == 1 else UP_FILTER
    filtered[:, :, 1:] = rows
    if channels == 3:
        filtered[:, 1:, 1:] -= rows[:, :-1]
    return filtered.reshape(n, -1)


def _file(shape: tuple[int, ...], filtered: np.ndarray, *texts: bytes) -> bytes:
    level = LEVEL_SMALL if len(filtered) <= SMALL else LEVEL
    return b"".join((_head(*shape), *texts, _chunk(b"IDAT", zlib_ng.compress(filtered, level)), END))


@lru_cache(64)  # a grid may have any size
def _head(height: int, width: int, channels: int) -> bytes:
    colour = 0 if channels == 1 else 2  # grey or RGB, of 8 bits
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))


def _chunk(kind: bytes, data: bytes) -> bytes:
    content = kind + data
    return b"%b%b%b" % (len(data).to_bytes(4), content, zlib_ng.crc32(content).to_bytes(4))


END = _chunk(b"IEND", b"")

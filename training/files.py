"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from serving.engine import images


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` once it is flushed to the disk: readers never see half of it.

    Raises OSError, which names `path`, with `path` as it was and nothing beside it.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def write(path: Path, content: str | bytes) -> None:
    """Text is UTF-8."""
    with whole(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_png(path: Path, image: np.ndarray) -> None:
    """image (H, W, C) uint8."""
    with whole(path) as file:
        images.as_pillow(image).save(file, "PNG")


def write_npy(path: Path, array: np.ndarray) -> None:
    """As numpy.save, whose own writer does not say why a disk refused."""
    with whole(path) as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(np.ascontiguousarray(array).data)

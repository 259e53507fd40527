"""An .npz file of images -> one uint8 tensor."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.errors import DataError

MAX_CLASSES = 65_536  # without names: what 16 bits count


def load(path: Path) -> tuple[Tensor, Tensor | None, tuple[str, ...] | None]:
    """The images in an .npz file. Nothing is unpickled. Raises DataError, naming the file.

    `images` (N, H, H), (N, H, H, C) or (N, C, H, H) uint8 with C = 1 or 3; `labels` (N,) integers from 0 up, and
    `classes` (K,) strings that name them, may be left out.
    -> images (N, C, H, H) uint8, labels (N,) int64, class names
    """
    arrays = _read(path, ("images", "labels", "classes"))
    images = _channels_first(arrays["images"], path)
    if "labels" not in arrays:
        return images, None, None
    labels = arrays["labels"]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: `labels` is {_describe(labels)}; it must be one integer a picture.")
    if len(labels) != len(images):
        raise DataError(f"{path}: {len(labels)} `labels` for {len(images)} `images`; there must be one a picture.")
    classes = arrays.get("classes")
    if classes is not None and (classes.ndim != 1 or classes.dtype.kind != "U"):
        raise DataError(f"{path}: `classes` is {_describe(classes)}; it must be one string a class.")
    limit = MAX_CLASSES if classes is None else len(classes)
    lowest, highest = int(labels.min()), int(labels.max())  # Python's: small integer types overflow
    for label in (lowest, highest):
        if not 0 <= label < limit:
            raise DataError(f"{path}: `labels` holds {label}; they must count the classes from 0, here below {limit}.")
    names = tuple(map(str, range(highest + 1) if classes is None else classes))
    if len(set(names)) < len(names) or "" in names:
        twice = next(name for name in names if not name or names.count(name) > 1)
        raise DataError(f"{path}: `classes` holds {twice!r} {names.count(twice)} times; each must have a name, once.")
    return images, torch.from_numpy(labels.astype(np.int64)), names


def _read(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of the named arrays that are there; the first must be."""
    if not path.is_file():
        raise DataError(f"{path} is not a file: give the .npz file itself.")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path} is not a whole .npz file; numpy.savez_compressed writes one.")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in names if name in file.files}
            found = ", ".join(file.files)
    except Exception as error:  # of zipfile, zlib and numpy, and MemoryError
        raise DataError(f"{path} cannot be read: {error}") from error
    if names[0] not in arrays:
        raise DataError(f"{path} has no array `{names[0]}`; it holds {found or 'nothing'}.")
    return arrays


def _channels_first(images: np.ndarray, path: Path) -> Tensor:
    """Any of the three shapes -> (N, C, H, H). A last axis of 1 or 3 is the channels."""
    if images.dtype != np.uint8:
        raise DataError(f"{path}: `images` is {_describe(images)}; it must be uint8.")
    given = _describe(images)
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise DataError(f"{path}: `images` is {given}; it must be (N, H, W), (N, H, W, C) or (N, C, H, W), C 1 or 3.")
    if images.shape[2] != images.shape[3] or not images.shape[2]:
        raise DataError(f"{path}: `images` is {given}; the pictures must be square.")
    if len(images) < 2:
        raise DataError(f"{path}: `images` is {given}; at least 2 pictures are needed.")
    return torch.from_numpy(np.ascontiguousarray(images))


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"

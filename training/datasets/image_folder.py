"""A folder of pictures -> one uint8 tensor.

Each picture is turned as its EXIF orientation says, composed on white where it is transparent, cropped to the square at
its centre and brought to size by Pillow's LANCZOS filter, which is antialiased. Of an animation the first frame counts.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from training.errors import DataError

# fmt: off
EXTENSIONS = (
    ".avif", ".bmp", ".dds", ".gif", ".ico", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pcx", ".pgm", ".png", ".pnm",
    ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp",
)
# fmt: on


def load(
    folder: Path, resolution: int, count: int | None = None
) -> tuple[Tensor, Tensor | None, tuple[str, ...] | None]:
    """All pictures below `folder` in the order of their paths, or `count` of them, evenly spaced in that order.

    -> images (N, C, R, R) uint8, C = 1 if every picture is grey, else 3; labels (N,) int64 and class names where the
    pictures lie in class folders, else None twice. Raises DataError, naming the file.
    """
    files = find(folder)
    labels, classes = class_folders(files)
    if count is not None and count < len(files):
        chosen = np.arange(count) * len(files) // count
        files, labels = [files[i] for i in chosen], None if labels is None else labels[chosen]
    images = np.empty((len(files), resolution, resolution, 3), np.uint8)

    def place(i: int) -> None:
        images[i] = read(files[i], resolution)

    # Threads, since Pillow lets go of the interpreter's lock. Their results are taken in the order of the files: of
    # several broken ones it is always the first that is named.
    with _bombs_refused(), ThreadPool() as pool:
        for _ in tqdm(pool.imap(place, range(len(files))), "reading pictures", len(files), unit="img", disable=None):
            pass
    if all((image == image[..., :1]).all() for image in images):
        images = images[..., :1]
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), labels, classes


def find(folder: Path) -> list[Path]:
    """The pictures below `folder`, known by their extension, sorted by path; hidden files and folders are left out."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give one that holds pictures.")
    files = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if len(files) < 2:
        found = f"one picture, {files[0].relative_to(folder)}" if files else "no pictures"
        raise DataError(f"{folder} holds {found}; at least 2 are needed, named {' '.join(EXTENSIONS)}.")
    return sorted(files, key=lambda path: path.parts)


def class_folders(files: list[Path]) -> tuple[Tensor | None, tuple[str, ...] | None]:
    """Labels (N,) int64 and class names (sorted): of each file, the folder just below the deepest one that holds all.

    None twice if a file lies in that deepest folder itself, as it does where there is one folder alone.
    """
    deepest = os.path.commonpath([path.parent for path in files])
    below = [path.relative_to(deepest).parts for path in files]
    if any(len(parts) == 1 for parts in below):
        return None, None
    names, labels = np.unique([parts[0] for parts in below], return_inverse=True)
    return torch.from_numpy(labels.astype(np.int64)), tuple(names.tolist())


def read(path: Path, resolution: int) -> np.ndarray:
    """One picture by the steps at the top of this file -> (R, R, 3) uint8. Raises DataError, naming the file."""
    try:
        with Image.open(path) as image:
            picture = _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is named like a picture and is none: repair it or take it away.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise DataError(f"{path} has more than {limit} pixels: make it smaller or take it away.") from error
    except Exception as error:  # on a damaged file Pillow raises whatever its parser came upon
        raise DataError(f"{path} cannot be read as a picture ({error}): repair it or take it away.") from error
    width, height = picture.size
    side = min(width, height)
    if side < resolution:
        raise DataError(
            f"{path} has {width} x {height} pixels; `data.resolution` (={resolution}) must not exceed the shorter side."
        )
    left, top = (width - side) // 2, (height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((resolution, resolution), Image.Resampling.LANCZOS))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating point numbers, whose range nobody knows; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits a pixel: convert("RGB") would cut them off at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("values outside of 0 to 65535; save it with 8 or 16 bits")
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


@contextmanager
def _bombs_refused() -> Iterator[None]:
    """Has Pillow refuse a picture of more than MAX_IMAGE_PIXELS, where it only warns up to twice as many."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield

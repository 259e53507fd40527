"""A folder of images -> one uint8 tensor.

Each image is turned as its EXIF orientation says, composed on white where it is transparent, cropped to the square at
its centre and brought to size by Pillow's LANCZOS filter, which is antialiased. Of an animation the first frame counts.
"""

import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from training.datasets import memory
from training.errors import DataError

# fmt: off
EXTENSIONS = (
    ".avif", ".bmp", ".dds", ".gif", ".ico", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pcx", ".pgm", ".png", ".pnm",
    ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp",
)
# fmt: on
METADATA = "metadata.jsonl"  # Hugging Face's, as `ganymede generate --format files` writes it: a line an image
# Of `ganymede generate`, file systems, macOS, network storage and Windows, beside all that begins with a dot.
PASSED_OVER = {"_ganymede", "lost+found", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"}
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}
NAMED = 10  # of what is left out, so many are named


class Found(NamedTuple):
    """The images below a folder, and what was made of the folder."""

    files: list[Path]  # sorted by path
    labels: np.ndarray | None  # (N,) int64
    classes: tuple[str, ...] | None  # also of class folders without an image
    notes: tuple[str, ...]  # what was left out, for people


def load(found: Found, resolution: int, count: int | None = None) -> tuple[Tensor, Tensor | None]:
    """The images of `find`, or `count` of them, evenly spaced in their order.

    -> images (N, C, R, R) uint8, C = 1 if every image is grey, else 3; labels (N,) int64 or None. Raises DataError,
    naming the file, and before anything is read where they do not fit into memory.
    """
    files, labels = found.files, found.labels
    if count is not None and count < len(files):
        chosen = np.arange(count) * len(files) // count
        files, labels = [files[i] for i in chosen], None if labels is None else labels[chosen]
    memory.check_fits(str(files[0].parent), len(files), 3, resolution)
    images = np.empty((len(files), 3, resolution, resolution), np.uint8)

    def place(i: int) -> None:
        images[i] = read(files[i], resolution).transpose(2, 0, 1)

    # Threads, since Pillow lets go of the interpreter's lock. Their results are taken in the order of the files: of
    # several broken ones it is always the first that is named.
    with _bombs_refused(), ThreadPool() as pool:
        for _ in tqdm(pool.imap(place, range(len(files))), "reading images", len(files), unit="img", disable=None):
            pass
    if all((image == image[:1]).all() for image in images):
        images = np.ascontiguousarray(images[:, :1])
    return torch.from_numpy(images), None if labels is None else torch.from_numpy(labels)


def find(folder: Path) -> Found:
    """The images below `folder`, known by their extension; links are followed. Raises DataError.

    Labels are those of `metadata.jsonl` where each image stands in one, else the class folders: of each image, the
    folder just below the deepest one that holds all. There are none if an image lies in that deepest folder itself, as
    it does where there is one folder alone.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give one that holds pictures.")
    walk = _Walk(folder)
    files, left_out = sorted(walk.files, key=lambda path: path.parts), tuple(walk.left_out())
    if len(files) < 2:
        held = f"one picture, {files[0].relative_to(folder)}" if files else "no pictures"
        besides = f" ({'; '.join(left_out)})" if left_out else ""
        raise DataError(f"{folder} holds {held}; at least 2 are needed, named {' '.join(EXTENSIONS)}{besides}.")
    deepest = Path(os.path.commonpath([path.parent for path in files]))
    empty = walk.folders_without_images()
    if walk.metadata:
        labels, classes = _labels_of_metadata(files, walk.metadata)
    else:
        labels, classes = _class_folders(files, deepest, empty)
    unused = [name for name in classes or () if deepest / name in empty]
    others = [path.relative_to(folder) for path in empty if not (unused and path.parent == deepest)]
    notes = (f"without images: {_listed(unused, 'class')}",) * bool(unused)
    notes += (f"without images: {_listed(others, 'folder')}",) * bool(others)
    return Found(files, labels, classes, notes + left_out)


class _Walk:
    """All that lies below a folder, links followed, without what is hidden or passed over."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        self.files: list[Path] = []
        self.folders: list[Path] = []
        self.metadata: dict[Path, Path] = {}  # by the folder it lies in
        self.unknown: Counter[str] = Counter()  # files by extension
        self.broken: list[Path] = []  # links that lead nowhere
        self.circular: list[Path] = []  # links to a folder that they lie in
        chains: dict[str, tuple[str, ...]] = {
            str(folder): (os.path.realpath(folder),)
        }  # of a path, the real folders from `folder` to it
        for where, folders, files in os.walk(folder, followlinks=True, onerror=_cannot_enter):
            chain, self.folders = chains.pop(where), [*self.folders, Path(where)]
            folders[:] = sorted(name for name in folders if not _passed_over(name))
            for name in list(folders):
                real = os.path.realpath(os.path.join(where, name))
                if real in chain:
                    self.circular.append(Path(where, name))
                    folders.remove(name)
                chains[os.path.join(where, name)] = (*chain, real)
            for name in files:
                if not _passed_over(name):
                    self._take(Path(where, name))

    def _take(self, path: Path) -> None:
        extension = path.suffix.lower()
        if path.name == METADATA:
            self.metadata[path.parent] = path
        elif path.is_file():
            if extension in EXTENSIONS:
                self.files.append(path)
            else:
                self.unknown[extension or "without an extension"] += 1
        elif path.is_symlink():
            self.broken.append(path)
        else:  # a pipe or a device
            self.unknown["no files"] += 1

    def folders_without_images(self) -> list[Path]:
        """The outermost ones."""
        holding = {self.root} | {parent for path in {file.parent for file in self.files} for parent in path.parents}
        holding |= {file.parent for file in self.files}
        return [path for path in self.folders if path not in holding and path.parent in holding]

    def left_out(self) -> Iterator[str]:
        if self.unknown:
            counted = ", ".join(f"{n:,} {extension}" for extension, n in self.unknown.most_common())
            heic = "; save .heic as .jpg or .png" if {".heic", ".heif"} & self.unknown.keys() else ""
            yield f"left out, as their names are no image's: {counted}{heic}"
        if self.broken:
            yield f"left out: {_listed([path.relative_to(self.root) for path in self.broken], 'broken link')}"
        if self.circular:
            found = _listed([path.relative_to(self.root) for path in self.circular], "link")
            yield f"not followed, as it leads to a folder that it lies in: {found}"


def _passed_over(name: str) -> bool:
    return name.startswith(".") or name in PASSED_OVER


def _cannot_enter(error: OSError) -> None:
    raise DataError(
        f"{error.filename} cannot be read: {error.strerror}; give this user permission, or take it out of the folder."
    )


def _listed(found: list[Any], what: str) -> str:
    """Such as "2 folders: a, b"."""
    plural = what + ("es" if what.endswith("s") else "s") if len(found) > 1 else what
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    return f"{len(found):,} {plural}: {', '.join(map(str, found[:NAMED]))}{more}"


def _class_folders(
    files: list[Path], deepest: Path, empty: list[Path]
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Labels (N,) int64 and class names, sorted, those of folders without images too, or None twice."""
    below = [path.relative_to(deepest).parts for path in files]
    if any(len(parts) == 1 for parts in below):
        return None, None
    used = {parts[0] for parts in below}
    classes = sorted(used | {path.name for path in empty if path.parent == deepest})
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[parts[0]] for parts in below], np.int64), tuple(classes)


def _labels_of_metadata(
    files: list[Path], metadata: dict[Path, Path]
) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Labels (N,) int64 and class names by the lines `{"file_name": ..., "label": ..., "class": ...}`.

    A label may be an index or a name; `class` may name it. None twice where an image has none.
    """
    found: dict[str, tuple[int, str]] = {}  # by path: what classes are sorted by, and the name
    for folder, path in metadata.items():
        try:
            for entry in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
                label = entry.get("label")
                if label is not None:
                    name = os.path.normpath(folder / entry["file_name"])
                    found[name] = (label if isinstance(label, int) else 0, str(entry.get("class", label)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} cannot be read as lines of JSON with `file_name`: {error!r}") from error
    of_files = [found.get(os.path.normpath(path)) for path in files]
    labelled = [each for each in of_files if each]
    if len(labelled) < len(files):
        return None, None
    classes = tuple(dict.fromkeys(name for _, name in sorted(set(labelled))))
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[name] for _, name in labelled], np.int64), classes


def split_folders(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The folders of "train", "test" and "val", and notes that say what was taken for what. Raises DataError.

    They are splits where there is one of training and another, in upper or lower case, in `folder` or in the only
    folder there.
    """
    inside = _folders(folder)
    for _ in range(8):  # no deeper, as a link may lead back
        if len(inside) == 1 and not any(path.suffix.lower() in EXTENSIONS for path in inside[0].parent.iterdir()):
            inside = _folders(inside[0])
    splits: dict[str, Path] = {}
    for split, names in SPLITS.items():
        having = [path for path in inside if path.name.lower() in names]
        if len(having) > 1:
            raise DataError(f"{folder}: {' and '.join(path.name for path in having)} are both `{split}`; keep one.")
        if having:
            splits[split] = having[0]
    if "train" not in splits or len(splits) < 2:
        return {}, ()
    told = ", ".join(f"{path.name} is `{split}`" for split, path in splits.items())
    others = [path.name for path in inside if path not in splits.values()]
    return splits, (f"splits: {told}",) + (f"left out beside the splits: {_listed(others, 'folder')}",) * bool(others)


def _folders(folder: Path) -> list[Path]:
    inside = os.listdir(folder) if os.access(folder, os.R_OK | os.X_OK) else []  # else `find` says so
    return sorted(folder / name for name in inside if (folder / name).is_dir() and not _passed_over(name))


def read(path: Path, resolution: int) -> np.ndarray:
    """One image by the steps at the top of this file -> (R, R, 3) uint8. Raises DataError, naming the file."""
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
    """Has Pillow refuse an image of more than MAX_IMAGE_PIXELS, where it only warns up to twice as many."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield

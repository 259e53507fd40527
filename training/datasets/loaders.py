"""Datasets by name -> one uint8 tensor in memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.datasets import critters, image_folder, memory, npz
from training.datasets.dataset import Dataset, Extent, Source
from training.datasets.transforms import resize
from training.errors import DataError

MAX_RESOLUTION = 1024  # as far as Karras et al. 2018 went
CRITTERS_COUNT = {"train": 50_000, "test": 10_000}
STACKED_COUNT = {"train": 128_000, "test": 10_000}  # Lin et al. 2018 train with as many
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


SOURCES = {
    "mnist": Source("MNIST", "CC BY-SA 3.0", "LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/"),
    "fashion-mnist": Source(
        "Fashion-MNIST", "MIT", "Xiao, Rasul and Vollgraf, https://github.com/zalandoresearch/fashion-mnist"
    ),
    "cifar10": Source("CIFAR-10", "no licence stated", "Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html"),
    "stacked-mnist": Source("stacked MNIST", "CC BY-SA 3.0", "three digits of MNIST as the planes of an RGB picture"),
    "critters": Source("critters", critters.LICENCE, critters.SOURCE),
}
NAMES = (*SOURCES, "folder", "npz")


EXTENTS = {  # of training images
    "mnist": Extent(60_000, 1, 10),
    "fashion-mnist": Extent(60_000, 1, 10),
    "cifar10": Extent(50_000, 3, 10),
    "stacked-mnist": Extent(STACKED_COUNT["train"], 3, 1000),
    "critters": Extent(CRITTERS_COUNT["train"], 3, None),
}
ENDLESS = ("stacked-mnist", "critters")  # as many as are asked for

Parts = tuple[Tensor, Tensor | None, tuple[str, ...] | None]  # images (N, C, H, H) uint8, labels (N,) int64, classes


def load(name: str, folder: Path, resolution: int, split: str = "train", count: int | None = None) -> Dataset:
    """A dataset by name, at `resolution` pixels. Raises DataError.

    `folder` is in torchvision's layout; what is missing is downloaded (MNIST, Fashion-MNIST, CIFAR-10) or rendered
    (critters) into it. For "folder" it is the folder of images itself, where `train` and `test` or `val` are the
    splits if it has them; for "npz" it is the file. `count` takes the first so many images; of a folder or a file,
    which may be sorted by class, so many at even distances.
    """
    _check(name, resolution, count)
    if name in EXTENTS:
        most = extent(name, folder, resolution, count)
        memory.check_fits(name, most.pictures, most.channels, resolution)
    match name:
        case "mnist" | "fashion-mnist":
            images, labels, classes = _mnist(name, folder, split)
        case "cifar10":
            images, labels, classes = _cifar10(folder, split)
        case "stacked-mnist":
            images, labels, classes = _stacked_mnist(folder, split, resolution, count or STACKED_COUNT[split])
        case "critters":
            images, labels, classes = _critters(folder, split, count or CRITTERS_COUNT[split])
        case _:
            return _own(name, folder, resolution, split, count)
    if len(images) < 2:
        raise DataError(f"{name}, {split}: {len(images)} pictures found in {folder}; at least 2 are needed.")
    labels = None if labels is None else labels[:count]
    return Dataset(resize(images[:count], resolution), labels, classes, SOURCES[name], split)


def extent(name: str, folder: Path, resolution: int, count: int | None = None) -> Extent:
    """Of what `load` gives to train on; only a user's own images are looked at for it. Raises DataError."""
    _check(name, resolution, count)
    if name in EXTENTS:
        known = EXTENTS[name]
        if count is None:
            return known
        return replace(known, pictures=count if name in ENDLESS else min(count, known.pictures))
    dataset = load(name, folder, resolution, count=count)
    return Extent(len(dataset), dataset.channels, len(dataset.classes) if dataset.classes else None)


def _check(name: str, resolution: int, count: int | None) -> None:
    if name not in NAMES:
        raise DataError(f"`data.name` (={name!r}) must be one of {', '.join(NAMES)}.")
    if not 1 <= resolution <= MAX_RESOLUTION:
        raise DataError(f"`data.resolution` (={resolution}) must be between 1 and {MAX_RESOLUTION}.")
    if count is not None and count < 2:
        raise DataError(f"`data.count` (={count}) must be at least 2.")


def _own(name: str, path: Path, resolution: int, split: str, count: int | None) -> Dataset:
    """A user's own images: a folder of them or an .npz file."""
    kind = "folder" if name == "folder" else "file"
    source = Source(path.resolve().name or "images", "not stated", f"a user's {kind} of pictures")
    if name == "folder":
        return _folder(path, source, resolution, split, count)
    images, labels, classes = npz.load(path)
    if count is not None and count < len(images):
        chosen = torch.arange(count) * len(images) // count
        images, labels = images[chosen], None if labels is None else labels[chosen]
    memory.check_fits(str(path), len(images), images.shape[1], resolution)
    return Dataset(resize(images, resolution), labels, classes, source, "all")


def _folder(path: Path, source: Source, resolution: int, split: str, count: int | None) -> Dataset:
    splits, notes = image_folder.split_folders(path)
    if not splits:
        found = image_folder.find(path)
        images, labels = image_folder.load(found, resolution, count)
        return Dataset(images, labels, found.classes, source, "all", found.notes)
    held_out = "test" if "test" in splits else "val"
    train, other = (image_folder.find(splits[part]) for part in ("train", held_out))
    if train.classes != other.classes:
        raise DataError(
            f"{path}: {splits['train'].name} has {_told(train.classes)} and {splits[held_out].name} has "
            f"{_told(other.classes)}; splits must have the same class folders."
        )
    found = train if split == "train" else other
    images, labels = image_folder.load(found, resolution, count)
    return Dataset(images, labels, found.classes, source, split, notes + found.notes)


def _told(classes: tuple[str, ...] | None) -> str:
    return "no class folders" if classes is None else f"the classes {', '.join(classes)}"


def _mnist(name: str, folder: Path, split: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """MNIST or Fashion-MNIST, whose files are alike."""
    from torchvision.datasets import MNIST, FashionMNIST
    from torchvision.datasets.mnist import read_image_file, read_label_file

    kind = MNIST if name == "mnist" else FashionMNIST
    raw = folder / kind.__name__ / "raw"
    begin = "train" if split == "train" else "t10k"
    images_file, labels_file = raw / f"{begin}-images-idx3-ubyte", raw / f"{begin}-labels-idx1-ubyte"
    if not (images_file.is_file() and labels_file.is_file()):
        try:
            kind(str(folder), download=True)
        except Exception as error:  # torchvision raises whatever the network or the file system did
            raise DataError(f"{kind.__name__} is not in {raw} and could not be downloaded: {error}") from error
    images, labels = _idx(images_file, read_image_file), _idx(labels_file, read_label_file)
    if len(labels) != len(images) or (labels > 9).any():
        raise DataError(f"{labels_file} does not fit {images_file.name}: delete both, and they are downloaded again.")
    return images[:, None], labels, tuple("0123456789") if kind is MNIST else tuple(kind.classes)


def _idx(path: Path, read: Callable[[str], Tensor]) -> Tensor:
    try:
        return read(str(path))
    except Exception as error:  # torchvision's reader asserts, indexes and reshapes
        raise DataError(f"{path} is damaged or cannot be read: delete it, and it is downloaded again.") from error


def _cifar10(folder: Path, split: str) -> Parts:
    """From `cifar10-<split>.npz` where that is there, as npz.load reads it, else from torchvision's files."""
    packed = folder / f"cifar10-{split}.npz"
    if packed.is_file():
        return *npz.load(packed)[:2], CIFAR10_CLASSES
    from torchvision.datasets import CIFAR10

    try:
        dataset = CIFAR10(str(folder), train=split == "train", download=True)
    except Exception as error:  # torchvision raises whatever the network or the file system did
        where = folder / CIFAR10.base_folder
        raise DataError(f"CIFAR-10 is not whole in {where} and could not be downloaded: {error}") from error
    images = torch.from_numpy(np.ascontiguousarray(dataset.data.transpose(0, 3, 1, 2)))
    return images, torch.tensor(dataset.targets), CIFAR10_CLASSES


def _stacked_mnist(folder: Path, split: str, resolution: int, count: int) -> Parts:
    """`count` triples of digits, each drawn from all of MNIST (Metz et al. 2017, section 3.3.1), the same ones always.

    A triple is the red, green and blue plane of one image; its class is 100 r + 10 g + b.
    """
    images, labels, _ = _mnist("mnist", folder, split)
    images = resize(images, resolution)[:, 0]  # before they are stacked, since those are more
    triples = torch.randint(len(images), (count, 3), generator=torch.Generator().manual_seed(0))
    return images[triples], labels[triples] @ torch.tensor([100, 10, 1]), tuple(f"{k:03}" for k in range(1000))


def _critters(folder: Path, split: str, count: int) -> Parts:
    images = critters.cached(folder, split, count)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), None, None

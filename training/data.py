"""Data sets -> one uint8 tensor in memory, and the order in which a run sees it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training import critters
from training.errors import DataError

CRITTERS_COUNT = {"train": 50_000, "test": 10_000}


@dataclass(frozen=True)
class Source:
    """What a model card says of a data set."""

    name: str
    licence: str
    source: str


@dataclass(frozen=True)
class Dataset:
    images: Tensor  # (N, C, R, R) uint8
    labels: Tensor | None  # (N,) int64
    classes: tuple[str, ...] | None
    source: Source

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    def __len__(self) -> int:
        return self.images.shape[0]


SOURCES = {
    "mnist": Source("MNIST", "CC BY-SA 3.0", "LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/"),
    "critters": Source("critters", critters.LICENCE, critters.SOURCE),
}


def load(name: str, folder: Path, resolution: int, split: str = "train", count: int | None = None) -> Dataset:
    """A data set by name, at `resolution` pixels.

    `folder` is in torchvision's layout; what is missing is downloaded (MNIST) or rendered (critters) into it. `count`
    takes the first so many pictures. Raises DataError.
    """
    if name not in SOURCES:
        raise DataError(f"`data.name` (={name!r}) must be one of {', '.join(SOURCES)}.")
    images, labels, classes = _mnist(folder, split) if name == "mnist" else _critters(folder, split, count)
    if count is not None:
        images, labels = images[:count], None if labels is None else labels[:count]
    if len(images) < 2:
        raise DataError(f"{name}, {split}: {len(images)} pictures found in {folder}; at least 2 are needed.")
    return Dataset(resize(images, resolution, name), labels, classes, SOURCES[name])


def resize(images: Tensor, resolution: int, name: str = "data") -> Tensor:
    """Box filter to a smaller size that divides the old one; the same size is left alone. (N, C, H, H) uint8."""
    size = images.shape[-1]
    if size == resolution:
        return images
    if size % resolution:
        raise DataError(f"`data.resolution` (={resolution}) must divide the {size} pixels of {name}.")
    parts = [F.avg_pool2d(part.float(), size // resolution).round().to(torch.uint8) for part in images.split(1024)]
    return torch.cat(parts)


def _mnist(folder: Path, split: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    from torchvision.datasets import MNIST

    try:
        dataset = MNIST(str(folder), train=split == "train", download=True)
    except Exception as error:  # torchvision raises whatever the network or the file system did
        raise DataError(
            f"MNIST is not in {folder} (as {folder / 'MNIST' / 'raw'}) and could not be downloaded: {error}"
        ) from error
    return dataset.data[:, None], dataset.targets.long(), tuple("0123456789")


def _critters(folder: Path, split: str, count: int | None) -> tuple[Tensor, None, None]:
    images = critters.cached(folder, split, count or CRITTERS_COUNT[split])
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), None, None


class Order:
    """The order in which a run sees the pictures: every epoch a new permutation, a function of (seed, epoch) alone.

    So a run that goes on at image k needs nothing but k.
    """

    def __init__(self, size: int, seed: int):
        self.size, self.seed = size, seed
        self.epoch = -1
        self.permutation = torch.empty(0, dtype=torch.int64)

    def batch(self, position: int, size: int) -> Tensor:
        """Indices of the pictures at position .. position+size-1 of the endless stream -> (size,) int64."""
        taken: list[Tensor] = []
        while size:
            epoch, offset = divmod(position, self.size)
            if epoch != self.epoch:
                self.epoch = epoch
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                self.permutation = torch.randperm(self.size, generator=generator)
            part = self.permutation[offset : offset + size]
            taken.append(part)
            position, size = position + len(part), size - len(part)
        return torch.cat(taken)


def to_unit(images: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def at_stage(images: Tensor, resolution: int, alpha: float) -> Tensor:
    """Reals as a growing network sees them (Karras et al. 2018, section 2). (N, C, R, R) -> (N, C, r, r).

    Box-filtered to `resolution` r, and during a fade-in blended by `alpha` with their own half-resolution version.
    """
    if images.shape[-1] != resolution:
        images = F.avg_pool2d(images, images.shape[-1] // resolution)
    if alpha < 1:
        half = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="nearest")
        images = half + alpha * (images - half)
    return images

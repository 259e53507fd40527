"""A dataset in memory, and what is known of one before it is read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from training.errors import DataError


@dataclass(frozen=True)
class Source:
    """What a model card says of a dataset."""

    name: str
    licence: str
    source: str


@dataclass(frozen=True)
class Dataset:
    images: Tensor  # (N, C, R, R) uint8, or float32 in [-1, 1]
    labels: Tensor | None  # (N,) int64
    classes: tuple[str, ...] | None
    source: Source
    split: str = "train"  # or "test", or "all" where the set is not divided
    notes: tuple[str, ...] = ()  # what was left out or taken for something, for people
    folder: Path | None = None  # where a run finds it again

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    def __len__(self) -> int:
        return self.images.shape[0]

    @cached_property
    def sha256(self) -> str:
        """Of the images and their labels: a run resumes on the same ones."""
        found = hashlib.sha256(self.images.contiguous().numpy().data)
        if self.labels is not None:
            found.update(self.labels.contiguous().numpy().data)
        return found.hexdigest()

    @property
    def unused_classes(self) -> tuple[str, ...]:
        """Classes that no image has."""
        if self.labels is None or self.classes is None:
            return ()
        counts = self.labels.bincount(minlength=len(self.classes)).tolist()
        return tuple(name for name, count in zip(self.classes, counts, strict=True) if not count)

    def handling_unused(self, how: Literal["reject", "drop", "keep"]) -> "Dataset":
        """Rejects classes without an image (DataError), drops them, or keeps them: never trained, yet served."""
        unused = self.unused_classes
        if not unused or how == "keep":
            return self
        if how == "drop":
            return self.of_classes([name for name in self.classes or () if name not in unused])
        more = f" and {len(unused) - 10} more" if len(unused) > 10 else ""
        raise DataError(
            f"{self.source.name} has no image of {'class' if len(unused) == 1 else 'the classes'} "
            f"{', '.join(unused[:10])}{more}: data.unused_classes=drop leaves out such classes, and "
            "data.unused_classes=keep serves them untrained."
        )

    def of_classes(self, classes: Sequence[str]) -> "Dataset":
        """The images of these classes, labelled by index into `classes`. Raises DataError where one is unknown."""
        if self.labels is None or self.classes is None or self.classes == tuple(classes):
            return self
        if missing := [name for name in classes if name not in self.classes]:
            raise DataError(f"{self.source.name} has no class {missing[0]!r}; it has {', '.join(self.classes)}.")
        index = torch.tensor([classes.index(name) if name in classes else -1 for name in self.classes])
        labels = index[self.labels]
        kept = labels >= 0
        return replace(self, images=self.images[kept], labels=labels[kept], classes=tuple(classes))


@dataclass(frozen=True)
class Extent:
    """How much there is of a dataset."""

    pictures: int
    channels: int
    classes: int | None

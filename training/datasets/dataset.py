"""A dataset in memory, and what is known of one before it is read."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Source:
    """What a model card says of a data set."""

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

    @property
    def channels(self) -> int:
        return self.images.shape[1]

    def __len__(self) -> int:
        return self.images.shape[0]


@dataclass(frozen=True)
class Extent:
    """How much there is of a data set."""

    pictures: int
    channels: int
    classes: int | None

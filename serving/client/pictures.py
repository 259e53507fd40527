"""What the client's calls return: pictures, each with its address."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

import numpy as np
from PIL import Image


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture. The same address, of the same model, is the same picture for ever."""

    array: np.ndarray = field(repr=False)  # (H, W, C) uint8, C 1 (grey) or 3 (RGB)
    model: str
    seed: int | None  # None with `index`: the picture lies between addresses, or is a mix of two
    index: int | None
    label: int | None  # the class of a conditional model's picture

    @cached_property
    def image(self) -> Image.Image:
        """As a Pillow image, mode L or RGB."""
        return Image.fromarray(self.array[..., 0] if self.array.shape[-1] == 1 else self.array)


@dataclass(frozen=True, eq=False)
class Pictures(Sequence[Picture]):
    """The pictures of one reply, in order."""

    array: np.ndarray = field(repr=False)  # (N, H, W, C) uint8
    model: str
    model_sha256: str  # of the model's files: where it is the same, an address means the same picture
    version: str  # of the server
    request_id: str
    addresses: Sequence[tuple[int, int] | None] = field(repr=False)  # (seed, index) of each
    labels: Sequence[int] | None = field(repr=False)

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, position: int) -> Picture: ...
    @overload
    def __getitem__(self, position: slice) -> list[Picture]: ...
    def __getitem__(self, position: int | slice) -> Picture | list[Picture]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        seed, index = self.addresses[position] or (None, None)
        label = None if self.labels is None else self.labels[position]
        return Picture(self.array[position], self.model, seed, index, label)

    @classmethod
    def of_reply(cls, array: np.ndarray, headers: Mapping[str, str]) -> "Pictures":
        labels = headers.get("x-ganymede-labels")
        return cls(
            array=array,
            model=headers["x-ganymede-model"],
            model_sha256=headers["x-ganymede-model-sha256"],
            version=headers["x-ganymede-version"],
            request_id=headers["x-request-id"],
            addresses=_addresses(headers, len(array)),
            labels=None if labels is None else [int(label) for label in labels.split(",")],
        )


def _addresses(headers: Mapping[str, str], n: int) -> list[tuple[int, int] | None]:
    """From a range, or from a list with nothing for a picture without an address."""
    if "x-ganymede-seed" in headers:
        seed, start = int(headers["x-ganymede-seed"]), int(headers["x-ganymede-start"])
        return [(seed, start + i) for i in range(n)]
    addresses: list[tuple[int, int] | None] = []
    for entry in headers["x-ganymede-addresses"].split(","):
        seed, _, index = entry.partition(":")
        addresses.append((int(seed), int(index)) if entry else None)
    return addresses

"""What the client's calls return: images, each with its address. They show and save themselves."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serving.client.animation import Animation

FilePath = str | PathLike[str]


class Address(NamedTuple):
    """Where an image lies in its model's endless stream; both are 0 to 2**64 - 1."""

    seed: int
    index: int  # pyright: ignore[reportIncompatibleMethodOverride] - the server's word, not tuple.index


@dataclass(frozen=True, eq=False)
class Picture:
    """One image. The same address, of the same model, is the same image for ever."""

    array: NDArray[np.uint8] = field(repr=False)  # (H, W, C), C 1 (grey) or 3 (RGB)
    model: str
    address: Address | None  # None: the image lies between addresses, or is a mix of two
    label: int | None  # the class of a conditional model's image
    model_sha256: str = field(repr=False)  # of the model's files: where it is the same, an address is the same image
    request_id: str = field(repr=False)  # as the server's log has it

    @property
    def seed(self) -> int | None:
        return self.address and self.address.seed

    @property
    def index(self) -> int | None:
        return self.address and self.address.index

    @cached_property
    def image(self) -> Image.Image:
        """As a Pillow image, mode L or RGB."""
        return _image(self.array)

    def save(self, path: FilePath, *, scale: int = 1) -> None:
        """Writes it as what the extension of `path` says, such as .png or .webp, enlarged `scale` times."""
        _image(self.array, scale).save(path)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return _png(self.image)


@dataclass(frozen=True, eq=False)
class Pictures(Sequence[Picture]):
    """The images of one reply, in order."""

    array: NDArray[np.uint8] = field(repr=False)  # (N, H, W, C)
    model: str
    model_sha256: str  # of the model's files: where it is the same, an address means the same image
    version: str  # of the server
    request_id: str
    addresses: Sequence[Address | None] = field(repr=False)
    labels: Sequence[int] | None = field(repr=False)
    columns: int | None = field(default=None, repr=False)  # of the grid they were asked for as: a line of digits

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, position: int) -> Picture: ...
    @overload
    def __getitem__(self, position: slice) -> list[Picture]: ...
    def __getitem__(self, position: int | slice) -> Picture | list[Picture]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        label = None if self.labels is None else self.labels[position]
        address = self.addresses[position]
        return Picture(self.array[position], self.model, address, label, self.model_sha256, self.request_id)

    def grid(self, *, columns: int | None = None, scale: int = 1) -> Image.Image:
        """All of them as one image, row by row, without gaps; cells left over are white.

        `columns`: as they were asked for, a line of digits or a row of a style mix; else nearly square.
        """
        n, height, width, channels = self.array.shape
        columns = columns or self.columns or math.isqrt(n - 1) + 1
        rows = -(-n // columns)
        cells = np.full((rows * columns, height, width, channels), 255, np.uint8)
        cells[:n] = self.array
        cells = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)  # (rows, H, columns, W, C)
        return _image(cells.reshape(rows * height, columns * width, channels), scale)

    def animation(self, *, fps: int = 25, loop: bool = True, scale: int = 1) -> Animation:
        """All of them one after another, `fps` a second, once or for ever."""
        return Animation(tuple(_image(frame, scale) for frame in self.array), fps, loop)

    def save(self, path: FilePath, *, columns: int | None = None, scale: int = 1) -> None:
        """Writes the grid as what the extension of `path` says, such as .png; as .npy, the array as it is."""
        if Path(path).suffix.lower() == ".npy":
            np.save(path, self.array, allow_pickle=False)
        else:
            self.grid(columns=columns, scale=scale).save(path)

    def save_each(self, folder: FilePath, *, scale: int = 1) -> list[Path]:
        """Writes each as a PNG into `folder`, made where it is missing; gives the paths, in order.

        They are named by address and class, `cgan-mnist-7-0-label4.png`; where not all have an address, or two share
        one, all by position, `cgan-mnist-000.png`. A file that is there and the same stays. Raises FileExistsError for
        any other, such as an image of another truncation, and then leaves nothing of its own.
        """
        pngs = [_png(_image(array, scale)) for array in self.array]
        paths = [Path(folder, name) for name in self._names()]
        Path(folder).mkdir(parents=True, exist_ok=True)
        written: list[Path] = []
        try:
            for path, png in zip(paths, pngs, strict=True):
                if not path.exists() or path.read_bytes() != png:
                    with path.open("xb") as file:
                        written.append(path)
                        file.write(png)
        except BaseException:
            for path in written:
                path.unlink()
            raise
        return paths

    def _names(self) -> list[str]:
        addresses = [address for address in self.addresses if address is not None]
        if len(set(addresses)) < len(self):
            return [f"{self.model}-{position:03}.png" for position in range(len(self))]
        labels = [""] * len(self) if self.labels is None else [f"-label{label}" for label in self.labels]
        pairs = zip(addresses, labels, strict=True)
        return [f"{self.model}-{seed}-{index}{label}.png" for (seed, index), label in pairs]

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return _png(self.grid())


def _image(array: NDArray[Any], scale: int = 1) -> Image.Image:
    """(H, W, C); every pixel becomes scale x scale pixels."""
    array = array if scale == 1 else array.repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()

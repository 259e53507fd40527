"""Replies -> what the caller gets, or a complaint: never an image other than the one that was asked for.

What reads raises ValueError, KeyError or TypeError where a reply is not what it should be; `call` makes one error of
them.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.client.models import Model
from serving.client.pictures import Address, Pictures


@dataclass(frozen=True)
class Expected:
    """What a reply with images must hold for it to be the answer."""

    n: int
    model: str | None  # None: whichever the server took
    addresses: Sequence[Address | None]  # of each image, in order; None between addresses
    columns: int | None = None  # of their grid
    labels: Sequence[int | str] | None = None  # of each image, by index or name; None: left to the server
    truncation: float | None = None


def pictures(headers: Mapping[str, str], body: bytes, expected: Expected) -> Pictures:
    array = _array(body)
    labels = headers.get("x-ganymede-labels")
    found = Pictures(
        array=array,
        model=headers["x-ganymede-model"],
        model_sha256=headers["x-ganymede-model-sha256"],
        version=headers["x-ganymede-version"],
        request_id=headers["x-request-id"],
        addresses=_addresses(headers, len(array)),
        labels=None if labels is None else [int(label) for label in labels.split(",")],
        columns=expected.columns,
    )
    if len(array) != expected.n or len(found.addresses) != expected.n:
        raise ValueError(f"{len(array)} pictures where {expected.n} were asked for")
    if found.labels is not None and len(found.labels) != expected.n:
        raise ValueError(f"{len(found.labels)} labels for {expected.n} pictures")
    if expected.model not in (None, found.model):
        raise ValueError(f"pictures of {found.model} where {expected.model} was asked for")
    if list(found.addresses) != list(expected.addresses):
        raise ValueError("pictures of other addresses than those that were asked for")
    if expected.labels is not None and not _agree(expected.labels, found.labels or ()):
        raise ValueError("pictures of other classes than those that were asked for")
    truncation = headers.get("x-ganymede-truncation")
    if (None if truncation is None else float(truncation)) != expected.truncation:
        raise ValueError(f"pictures with truncation {truncation} where {expected.truncation} was asked for")
    return found


def _agree(asked: Sequence[int | str], found: Sequence[int]) -> bool:
    """True where indices are the same, and each name stands for one index of its own."""
    names: dict[str, int] = {}
    same = len(asked) == len(found) and all(
        (names.setdefault(label, index) if isinstance(label, str) else label) == index
        for label, index in zip(asked, found, strict=True)
    )
    return same and len(set(names.values())) == len(names)


def models(headers: Mapping[str, str], body: bytes) -> list[Model]:
    return [Model.of(document) for document in json.loads(body)["models"]]


def model(headers: Mapping[str, str], body: bytes) -> Model:
    return Model.of(json.loads(body))


def _array(body: bytes) -> NDArray[np.uint8]:
    """NumPy's own format -> (N, H, W, C) uint8, all of it and nothing after it."""
    stream = io.BytesIO(body)
    array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3) or stream.read(1):
        raise ValueError(f"an array {array.dtype} {array.shape}, which is no pictures")
    return array


def _addresses(headers: Mapping[str, str], n: int) -> list[Address | None]:
    """From a range, or from a list with nothing for an image without an address."""
    if "x-ganymede-seed" in headers:
        seed, start = int(headers["x-ganymede-seed"]), int(headers["x-ganymede-start"])
        return [Address(seed, start + i) for i in range(n)]
    addresses: list[Address | None] = []
    for entry in headers["x-ganymede-addresses"].split(","):
        seed, _, index = entry.partition(":")
        addresses.append(Address(int(seed), int(index)) if entry else None)
    return addresses

"""Convert addresses to latents, interpolate and mix latents. Pure functions on NumPy arrays.

Every image has an address: (model, seed, index). Its latent depends on the address alone, so every part of an endless
stream is reproducible in any order, on any number of machines.
"""

import secrets
import threading
from collections.abc import Sequence
from itertools import repeat
from typing import Literal, NamedTuple

import numpy as np

ADDRESS_LIMIT = 2**64
"""Seeds and indices are unsigned 64-bit integers: 0 to ADDRESS_LIMIT - 1."""

Source = Literal["philox", "numpy-randomstate"]
"""Method that converts an address to a latent. `numpy-randomstate` is the convention of StyleGAN's own tools."""

RANDOM_STATE_LIMIT = 2**32
"""RandomState takes seeds of 32 bits, so the sum of seed and index is below this."""


class Address(NamedTuple):
    """Position of an image in a model's endless stream. Both fields are 0 to 2**64 - 1."""

    seed: int
    index: int  # pyright: ignore[reportIncompatibleMethodOverride] - the word of the design, not tuple.index


def address_range(seed: int, start: int, n: int) -> list[Address]:
    """Return the addresses (seed, start) to (seed, start + n - 1). Raises ValueError if one exceeds 2**64 - 1."""
    if not 0 <= seed < ADDRESS_LIMIT:
        raise ValueError(f"`seed` (={seed}) must be between 0 and 2^64 - 1.")
    last = ADDRESS_LIMIT - n
    if not 0 <= start <= last:
        raise ValueError(f"`start` (={start}) must be between 0 and {last}: the last of {n} indices is below 2^64.")
    pairs = zip(repeat(seed), range(start, start + n))
    return list(map(tuple.__new__, repeat(Address), pairs))  # four times as fast as calling Address


def check_address(source: Source, seed: int, last: int) -> tuple[Literal["seed", "index"], str] | None:
    """Return the invalid field of an address range and a message, or None if valid. `last`: the highest index."""
    if source == "philox" or seed + last < RANDOM_STATE_LIMIT:
        return None
    field, value = ("seed", seed) if seed >= RANDOM_STATE_LIMIT else ("index", last)
    allowed = "latents of this model are RandomState(seed + index).randn, so seed + index must be at most 2^32 - 1"
    return field, f"`{field}` (={value}) is out of range: {allowed}."


def draw_seed(source: Source = "philox", last: int = 0) -> int:
    """Return a random seed that has latents up to index `last`.

    It is below 2**53, so JavaScript represents it exactly.
    """
    return secrets.randbelow(2**53 if source == "philox" else max(1, RANDOM_STATE_LIMIT - last))


def latents(addresses: Sequence[Address] | np.ndarray, size: int, source: Source = "philox") -> np.ndarray:
    """Return standard normal latents (N, size) float32 of `addresses`, also given as seed and index (N, 2) uint64.

    `philox`: Generator(Philox(key=(seed, index))). Philox is counter-based (Salmon et al. 2011): a key gives an
    independent stream directly, so the latent at index 10**15 costs the same as the one at index 0.
    `numpy-randomstate`: RandomState(seed + index).randn(size), rounded to float32. `check_address` checks its range.
    """
    z = np.empty((len(addresses), size), np.float32)
    pairs = addresses.tolist() if isinstance(addresses, np.ndarray) else addresses
    if source == "numpy-randomstate":
        for row, (seed, index) in zip(z, pairs, strict=True):
            row[:] = np.random.RandomState(seed + index).randn(size)
        return z  # (N, Z)
    stream = _streams.stream
    for row, (seed, index) in zip(z, pairs, strict=True):
        stream.seek(seed, index)
        stream.normal.standard_normal(dtype=np.float32, out=row)
    return z  # (N, Z)


class _Stream:
    """Reusable `Generator(Philox(key=(seed, index)))`: creating a new one for each address takes four times as long.

    `seek` resets counter and buffer, as in a new one. The state holds Python integers, which Philox reads in half the
    time of NumPy integers.
    """

    def __init__(self) -> None:
        self._philox = np.random.Philox(key=0)
        self.normal = np.random.Generator(self._philox)
        self._key = [0, 0]
        self._state = self._philox.state | {"state": {"counter": [0] * 4, "key": self._key}, "buffer": [0] * 4}

    def seek(self, seed: int, index: int) -> None:
        self._key[0], self._key[1] = seed, index
        self._philox.state = self._state  # pyright: ignore[reportAttributeAccessIssue]  its type is private


class _Streams(threading.local):
    """One stream for each thread."""

    def __init__(self) -> None:
        self.stream = _Stream()


_streams = _Streams()


def lerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Linear interpolation from a (t = 0) to b (t = 1). Both ends are exact: lerp(a, b, 0) is a, bit for bit."""
    if t == 0 or t == 1:
        return np.array(b if t else a, np.float32)
    return (a * np.float32(1 - t) + b * np.float32(t)).astype(np.float32)


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Spherical interpolation from a (t = 0) to b (t = 1) on the last axis (White 2016, arXiv 1609.04468).

    Direction and norm change at a constant rate. A path between two normal latents therefore avoids the short
    vectors of a straight line, which the generator has not seen. Parallel and opposite vectors define no unique circle
    and are interpolated linearly. Both ends are exact, bit for bit.
    """
    if t == 0 or t == 1:
        return np.array(b if t else a, np.float32)
    x, y = a.astype(np.float64), b.astype(np.float64)
    norm_x, norm_y = np.linalg.norm(x, axis=-1, keepdims=True), np.linalg.norm(y, axis=-1, keepdims=True)
    tiny = np.finfo(np.float64).tiny  # a zero vector has no direction: 0 / tiny is 0, and its angle below is pi / 2
    x, y = x / np.maximum(norm_x, tiny), y / np.maximum(norm_y, tiny)
    angle = np.arccos(np.clip(np.sum(x * y, axis=-1, keepdims=True), -1, 1))
    sine = np.sin(angle)
    curved = sine > 1e-6
    sine = np.where(curved, sine, 1)
    turned = (np.sin((1 - t) * angle) * x + np.sin(t * angle) * y) / sine
    on_circle = turned * ((1 - t) * norm_x + t * norm_y)
    return np.where(curved, on_circle, lerp(a, b, t)).astype(np.float32)


def truncation(psi: float, layers: int, cutoff: int | None = None) -> np.ndarray:
    """Return truncation strengths (L,) float32: `psi` on the layers before `cutoff` (default: all), 1 on the others.

    The mapping network computes w_mean + psi * (w - w_mean) with them (Karras et al. 2019, appendix B).
    """
    strengths = np.ones(layers, np.float32)
    strengths[:cutoff] = psi
    return strengths  # (L,)


def mix_styles(rows: np.ndarray, columns: np.ndarray, layers: Sequence[int]) -> np.ndarray:
    """Return each row's w with `layers` of each column's w (Karras et al. 2019, section 3.1).

    rows (R, L, W), columns (C, L, W) -> w (R * C, L, W), row by row.
    """
    w = np.repeat(rows, len(columns), axis=0)  # (R * C, L, W)
    w[:, list(layers)] = np.tile(columns, (len(rows), 1, 1))[:, list(layers)]
    return w

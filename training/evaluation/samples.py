"""The images of an exported model that are measured: each a function of its number alone, whatever the batch."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from serving.engine.latents import Address, address_range, lerp, slerp
from serving.engine.repository import Model
from serving.engine.runtime import Runtime

SEED = 1_000_003  # of the images that are measured; far from the small seeds that people look at
PATH_SEED = SEED + 1
COLUMN_SEED = SEED + 2  # of the second of the two that are mixed

Styles = Literal["coarse", "middle", "fine"]
STYLES: tuple[Styles, ...] = ("coarse", "middle", "fine")


def generate(runtime: Runtime, start: int, n: int, seed: int = SEED) -> tuple[np.ndarray, np.ndarray | None]:
    """Images at addresses (seed, start ..) -> (n, H, W, C) uint8, and their labels: the classes in turn."""
    labels = _in_turn(runtime.model, np.arange(start, start + n))
    return runtime.generate(runtime.model.latents(address_range(seed, start, n)), labels), labels


def described(model: Model, number: int) -> dict[str, Any]:
    """Where the image of `generate` with this number lies, as model.json holds it: address, label if there is one."""
    label = {"label": number % len(model.classes)} if model.classes else {}
    return {"address": [SEED, number], **label}


def truncated(runtime: Runtime, psi: float, start: int, n: int) -> np.ndarray:
    """The images of `generate` at truncation `psi` on every layer: style models. -> (n, H, W, C) uint8"""
    model = runtime.model
    z = model.latents(address_range(SEED, start, n))
    return runtime.generate(z, _in_turn(model, np.arange(start, start + n)), np.full(1, psi, np.float32))


def mixed(runtime: Runtime, start: int, n: int, styles: Styles | None = None) -> np.ndarray:
    """Mixes of two: number i has `styles` of the image at (COLUMN_SEED, i) and all others of the one at (SEED, i).

    Where `styles` are not given they are coarse, middle and fine ones in turn. -> numbers start .., (n, H, W, C) uint8
    """
    model = runtime.model
    if model.style is None:
        raise ValueError(f"{model.id}: mixing is for style models.")
    ones = np.ones((n, model.style.layers), np.float32)
    labels = _in_turn(model, np.arange(start, start + n))
    rows, columns = (
        runtime.map(model.latents(address_range(seed, start, n)), ones, labels) for seed in (SEED, COLUMN_SEED)
    )
    for k in range(n):
        layers = list(getattr(model.style, styles or STYLES[(start + k) % len(STYLES)]))
        rows[k, layers] = columns[k, layers]
    return runtime.synthesize({"w": rows})


def path_ends(runtime: Runtime, space: Literal["z", "w"], epsilon: float, start: int, n: int) -> np.ndarray:
    """Images of steps along paths between latents: number 2i is path i at t, 2i + 1 at t + `epsilon`.

    t is uniform in [0, 1 - epsilon); the path is a great circle in z and a straight line in w (Karras et al. 2019,
    eqs. 2 and 3); both ends of a path have one label, the classes in turn. -> numbers start .., (n, H, W, C) uint8
    """
    model = runtime.model
    paths, ends = np.divmod(np.arange(start, start + n), 2)
    t = np.random.default_rng(PATH_SEED).random(paths[-1] + 1)[paths] * (1 - epsilon) + ends * epsilon
    a, b = (model.latents([Address(PATH_SEED, 2 * int(i) + side) for i in paths]) for side in (0, 1))
    labels = _in_turn(model, paths)
    if space == "z":
        return runtime.generate(_along(slerp, a, b, t), labels)
    if model.style is None:
        raise ValueError(f"{model.id}: `space` (='w') is for style models; this one has z alone.")
    psi = np.ones((n, model.style.layers), np.float32)
    return runtime.synthesize({"w": _along(lerp, runtime.map(a, psi, labels), runtime.map(b, psi, labels), t)})


def _in_turn(model: Model, numbers: np.ndarray) -> np.ndarray | None:
    """The class of each number (n,), in turn; None for an unconditional model."""
    return numbers % len(model.classes) if model.classes else None


def _along(
    way: Callable[[np.ndarray, np.ndarray, float], np.ndarray], a: np.ndarray, b: np.ndarray, t: np.ndarray
) -> np.ndarray:
    """Each row of a and b (N, ...) at its own t (N,) -> (N, ...)."""
    return np.stack([way(x, y, float(u)) for x, y, u in zip(a, b, t, strict=True)])

"""The pictures of an exported model that are measured: each a function of its number alone, whatever the batch."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from serving.engine.latents import Address, address_range, latents, lerp, slerp
from serving.engine.runtime import Runtime

SEED = 1_000_003  # of the pictures that are measured; far from the small seeds that people look at
PATH_SEED = SEED + 1


def generate(runtime: Runtime, start: int, n: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Pictures at addresses (SEED, start ..) -> (n, H, W, C) uint8, and their labels: the classes in turn."""
    classes = runtime.model.classes
    labels = np.arange(start, start + n) % len(classes) if classes else None
    return runtime.generate(latents(address_range(SEED, start, n), runtime.model.latent_size), labels), labels


def path_ends(runtime: Runtime, space: Literal["z", "w"], epsilon: float, start: int, n: int) -> np.ndarray:
    """Pictures of steps along paths between latents: number 2i is path i at t, 2i + 1 at t + `epsilon`.

    t is uniform in [0, 1 - epsilon); the path is a great circle in z and a straight line in w (Karras et al. 2019,
    eqs. 2 and 3); both ends of a path have one label, the classes in turn. -> numbers start .., (n, H, W, C) uint8
    """
    model = runtime.model
    paths, ends = np.divmod(np.arange(start, start + n), 2)
    t = np.random.default_rng(PATH_SEED).random(paths[-1] + 1)[paths] * (1 - epsilon) + ends * epsilon
    a, b = (latents([Address(PATH_SEED, 2 * int(i) + side) for i in paths], model.latent_size) for side in (0, 1))
    labels = paths % len(model.classes) if model.classes else None
    if space == "z":
        return runtime.generate(_along(slerp, a, b, t), labels)
    if model.style is None:
        raise ValueError(f"{model.id}: `space` (='w') is for style models; this one has z alone.")
    psi = np.ones((n, model.style.layers), np.float32)
    return runtime.synthesize({"w": _along(lerp, runtime.map(a, psi), runtime.map(b, psi), t)})


def _along(
    way: Callable[[np.ndarray, np.ndarray, float], np.ndarray], a: np.ndarray, b: np.ndarray, t: np.ndarray
) -> np.ndarray:
    """Each row of a and b (N, ...) at its own t (N,) -> (N, ...)."""
    return np.stack([way(x, y, float(u)) for x, y, u in zip(a, b, t, strict=True)])

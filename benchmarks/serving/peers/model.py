"""What every peer serves: the same ONNX file, by the same sessions, latents and PNG encoder, so that they differ in
nothing but how requests come to the model and pictures go back. `MODEL` names the folder of the model."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from serving.engine import images
from serving.engine.latents import Address, address_range, latents
from serving.engine.png import png
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime


def load() -> Runtime:
    return Runtime(load_model(Path(os.environ["MODEL"])))


def draw(runtime: Runtime, addresses: Sequence[Address]) -> np.ndarray:
    """Pictures (N, H, W, C) uint8."""
    return runtime.synthesize({"z": latents(addresses, runtime.model.latent_size)})


def reply(pictures: np.ndarray) -> bytes:
    """A PNG of a single picture, and of several an array in NumPy's format."""
    return png(pictures[0]) if len(pictures) == 1 else b"".join(images.npy(pictures))


__all__ = ["Address", "Runtime", "address_range", "draw", "load", "reply"]

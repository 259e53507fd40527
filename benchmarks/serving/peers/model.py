"""Model of all peers: the same ONNX file, sessions, latents and PNG encoder, so that only the servers differ.

`MODEL` names the folder of the model.
"""

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
    """Return images (N, H, W, C) uint8."""
    return runtime.synthesize({"z": latents(addresses, runtime.model.latent_size)})


def reply(pixels: np.ndarray) -> bytes:
    """Return the PNG of one image, or several images in NumPy's `.npy` format."""
    return png(pixels[0]) if len(pixels) == 1 else b"".join(images.npy(pixels))


__all__ = ["Address", "Runtime", "address_range", "draw", "load", "reply"]

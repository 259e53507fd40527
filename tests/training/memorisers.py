"""Models that know a few images by heart: what every measure must find in them is known beforehand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from tiny_models import Graph, document, write_model


def memoriser(
    folder: Path,
    pictures: np.ndarray,
    data: str,
    classes: Sequence[str] | None = None,
    *,
    horizontal_flips: bool = False,
) -> Runtime:
    """A model of (M, C, R, R) uint8 images, each as likely as any other; with classes, of those in its label's share.

    The largest of the latents chooses the image. With K classes the first M / K images are of the first one.
    """
    count, channels, size, _ = pictures.shape
    latent_size = count // len(classes or [None])
    g = Graph(seed=0)
    index = g.add("ArgMax", "z", axis=1, keepdims=0)  # (N,)
    inputs: dict[str, tuple[int, list]] = {"z": (TensorProto.FLOAT, ["N", latent_size])}
    if classes:
        inputs["label"] = (TensorProto.INT64, ["N"])
        index = g.add("Add", index, g.add("Mul", "label", g.constant(np.int64(latent_size))))
    g.nodes.append(helper.make_node("Gather", [g.constant(pictures), index], ["image"], axis=0))
    graph = g.model(inputs, {"image": (TensorProto.UINT8, ["N", channels, size, size])})

    family = "cgan" if classes else "dcgan"
    described: dict[str, Any] = document(
        folder.name, family, channels=channels, size=size, latent_size=latent_size, classes=classes
    )
    recipe = {"name": data, "resolution": size, "count": None, "horizontal_flips": horizontal_flips}
    described["training"]["recipe"] = {"data": recipe}
    described["metrics"] = []
    write_model(folder, described, {"generator.onnx": graph})
    return Runtime(load_model(folder), threads=1)

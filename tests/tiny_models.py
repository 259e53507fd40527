"""A repository of three tiny generators with fixed random weights: real ONNX files, built in milliseconds, no training.

`tiny-dcgan` (16x16 grey), `tiny-cgan` (16x16 grey, ten digit classes) and `tiny-style` (16x16 RGB, 6 layers) have the
inputs, outputs and `model.json` of the published families, so whatever serves them serves those.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LATENT = 8
SIZE = 16
CLASSES = [str(digit) for digit in range(10)]
LAYERS = 6
W = 12
OPSET = 17
IR_VERSION = 8

Tensors = Mapping[str, tuple[int, list]]  # name -> type and shape


class Graph:
    """Collects nodes and weights, so that a network below reads as a list of layers."""

    def __init__(self, seed: int):
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(seed)

    def add(self, op: str, *inputs: str, **attributes) -> str:
        output = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def constant(self, value) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        return self.constant((scale * self.rng.standard_normal(shape)).astype(np.float32))

    def image(self, x: str) -> None:
        """[-1, 1] -> uint8, as the published graphs have it."""
        x = self.add("Add", self.add("Mul", self.add("Tanh", x), self.constant(np.float32(127.5))), self.floats(128.0))
        x = self.add("Clip", x, self.floats(0.0), self.floats(255.0))
        self.nodes.append(helper.make_node("Cast", [x], ["image"], to=TensorProto.UINT8))

    def floats(self, value: float) -> str:
        return self.constant(np.float32(value))

    def model(self, inputs: Tensors, outputs: Tensors) -> bytes:
        def infos(tensors: Tensors) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(name, dtype, shape) for name, (dtype, shape) in tensors.items()]

        graph = helper.make_graph(self.nodes, "tiny", infos(inputs), infos(outputs), self.weights)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="ganymede-tests")
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


def generator(*, conditional: bool, seed: int) -> bytes:
    """z (N, 8), for a conditional one also label (N,) -> image (N, 1, 16, 16): three transposed convolutions."""
    g = Graph(seed)
    inputs: Tensors = {"z": (TensorProto.FLOAT, ["N", LATENT])}
    x, features = "z", LATENT
    if conditional:
        inputs = {**inputs, "label": (TensorProto.INT64, ["N"])}
        x = g.add("Concat", x, g.add("Gather", g.normal(len(CLASSES), 4, scale=2.0), "label"), axis=1)
        features += 4
    x = g.add("Reshape", x, g.constant(np.array([-1, features, 1, 1])))
    x = g.add("ConvTranspose", x, g.normal(features, 12, 4, 4, scale=0.5), kernel_shape=[4, 4])  # (N, 12, 4, 4)
    x = g.add("Relu", x)
    stride = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    x = g.add("Relu", g.add("ConvTranspose", x, g.normal(12, 8, 4, 4, scale=0.2), **stride))  # (N, 8, 8, 8)
    g.image(g.add("ConvTranspose", x, g.normal(8, 1, 4, 4, scale=0.2), **stride))  # (N, 1, 16, 16)
    return g.model(inputs, {"image": (TensorProto.UINT8, ["N", 1, SIZE, SIZE])})


def mapping(*, seed: int, classes: int = 0) -> bytes:
    """z (N, 8), psi (N, 6), of `classes` also label (N,) -> w (N, 6, 12): z normalised, two dense layers, truncation
    towards a mean inside."""
    g = Graph(seed)
    mean_square = g.add("ReduceMean", g.add("Mul", "z", "z"), axes=[1], keepdims=1)
    x = g.add("Div", "z", g.add("Sqrt", g.add("Add", mean_square, g.floats(1e-8))))
    if classes:
        x = g.add("Concat", x, g.add("Gather", g.normal(classes, 4), "label"), axis=1)
    x = g.add("Gemm", x, g.normal(LATENT + (4 if classes else 0), 16, scale=0.4), g.normal(16, scale=0.1))
    x = g.add("LeakyRelu", x, alpha=0.2)
    x = g.add("Gemm", x, g.normal(16, W, scale=0.25), g.normal(W, scale=0.1))
    mean = g.normal(W, scale=0.2)
    offset = g.add("Unsqueeze", g.add("Sub", x, mean), g.constant(np.array([1])))  # (N, 1, W)
    scaled = g.add("Mul", offset, g.add("Unsqueeze", "psi", g.constant(np.array([2]))))  # (N, L, W)
    g.nodes.append(helper.make_node("Add", [scaled, mean], ["w"]))
    inputs: Tensors = {"z": (TensorProto.FLOAT, ["N", LATENT]), "psi": (TensorProto.FLOAT, ["N", LAYERS])}
    if classes:
        inputs = {**inputs, "label": (TensorProto.INT64, ["N"])}
    return g.model(inputs, {"w": (TensorProto.FLOAT, ["N", LAYERS, W])})


def synthesis(*, seed: int) -> bytes:
    """w (N, 6, 12) -> image (N, 3, 16, 16): learned 4x4 constant, two modulated convolutions a resolution, toRGB."""
    g = Graph(seed)
    channels = 8
    x = g.normal(1, channels, 4, 4)
    for layer in range(LAYERS):
        if layer in (2, 4):
            x = g.add("Resize", x, "", g.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
        w = g.add("Gather", "w", g.constant(np.int64(layer)), axis=1)  # (N, W)
        style = g.add("Gemm", w, g.normal(W, channels, scale=0.2), g.constant(np.ones(channels, np.float32)))
        style = g.add("Reshape", style, g.constant(np.array([-1, channels, 1, 1])))
        convolution = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        x = g.add("Conv", g.add("Mul", x, style), g.normal(channels, channels, 3, 3, scale=0.15), **convolution)
        noise = g.normal(1, 1, 4 << layer // 2, 4 << layer // 2, scale=0.1)
        x = g.add("LeakyRelu", g.add("Add", x, noise), alpha=0.2)
    g.image(g.add("Conv", x, g.normal(3, channels, 1, 1, scale=0.2), kernel_shape=[1, 1]))
    inputs = {"w": (TensorProto.FLOAT, ["N", LAYERS, W])}
    return g.model(inputs, {"image": (TensorProto.UINT8, ["N", 3, SIZE, SIZE])})


def noise(size: int, *, seed: int) -> bytes:
    """z (N, 8) -> image (N, 3, size, size), of which no format makes little."""
    g = Graph(seed)
    colour = g.add("Reshape", g.add("Gemm", "z", g.normal(LATENT, 3), g.normal(3)), g.constant(np.array([-1, 3, 1, 1])))
    g.image(g.add("Add", colour, g.normal(1, 3, size, size)))
    inputs = {"z": (TensorProto.FLOAT, ["N", LATENT])}
    return g.model(inputs, {"image": (TensorProto.UINT8, ["N", 3, size, size])})


def write_model(folder: Path, document: dict, files: dict[str, bytes]) -> None:
    """Writes the ONNX files of a model and its `model.json`, with their sizes and hashes."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    hashes = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in sorted(files.items())
    }
    (folder / "model.json").write_text(json.dumps(document | {"files": hashes}, indent=2))


def document(
    id: str,
    family: str,
    *,
    channels: int,
    size: int = SIZE,
    latent_size: int = LATENT,
    classes: Sequence[str] | None = None,
    style: dict | None = None,
) -> dict:
    """A whole `model.json`, but for its `files`."""
    return {
        "schema_version": 1,
        "id": id,
        "name": f"Tiny {family}, random weights",
        "family": family,
        "dataset": {"name": "none", "licence": "CC0-1.0", "source": "random weights"},
        "licence": "Apache-2.0",
        "image": {"height": size, "width": size, "channels": channels},
        "latent_size": latent_size,
        "classes": None if classes is None else list(classes),
        "style": style,
        "training": {
            "recipe": {"name": id},
            "recipe_sha256": hashlib.sha256(id.encode()).hexdigest(),
            "device": "none",
            "images_seen": 0,
            "seconds": 0.0,
            "git_revision": "0" * 40,
            "versions": {"onnx": onnx.__version__},
        },
        "metrics": [{"name": "fid", "value": 400.0, "protocol": "made up", "samples": 1, "reference": "none"}],
    }


def build_imported(folder: Path) -> Path:
    """Writes `tiny-imported` under `folder`, a model repository: a style model of three classes, latents of NumPy."""
    style = {"layers": LAYERS, "w_size": W, "coarse": [0, 1], "middle": [2, 3], "fine": [4, 5]}
    of = document("tiny-imported", "stylegan2", channels=3, classes=["red", "green", "blue"], style=style)
    of |= {
        "latents": "numpy-randomstate",
        "dataset": {},
        "training": {"source": {"file": "a.pkl", "sha256": "0" * 64, "format": "none"}},
    }
    files = {"mapping.onnx": mapping(seed=5, classes=3), "synthesis.onnx": synthesis(seed=4)}
    write_model(folder / "tiny-imported", of, files)
    return folder


def build_repository(folder: Path) -> Path:
    """Writes `tiny-cgan`, `tiny-dcgan` and `tiny-style` under `folder`, a model repository, and returns it."""
    style = {"layers": LAYERS, "w_size": W, "coarse": [0, 1], "middle": [2, 3], "fine": [4, 5]}
    write_model(
        folder / "tiny-dcgan",
        document("tiny-dcgan", "dcgan", channels=1),
        {"generator.onnx": generator(conditional=False, seed=1)},
    )
    write_model(
        folder / "tiny-cgan",
        document("tiny-cgan", "cgan", channels=1, classes=CLASSES),
        {"generator.onnx": generator(conditional=True, seed=2)},
    )
    write_model(
        folder / "tiny-style",
        document("tiny-style", "stylegan", channels=3, style=style),
        {"mapping.onnx": mapping(seed=3), "synthesis.onnx": synthesis(seed=4)},
    )
    return folder


def add_directions(folder: Path) -> dict[str, np.ndarray]:
    """Give a style model the directions `up` (all layers) and `fine` (layers 4 and 5); return their vectors (12,)."""
    rng = np.random.default_rng(5)
    vectors = {name: rng.standard_normal(W).astype(np.float32) for name in ("up", "fine")}
    np.savez(folder / "directions.npz", **vectors)  # type: ignore[arg-type]
    data = (folder / "directions.npz").read_bytes()
    known = json.loads((folder / "model.json").read_text())
    known["files"]["directions.npz"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    known["directions"] = [
        {"name": "up", "method": "sefa", "layers": list(range(LAYERS))},
        {"name": "fine", "method": "sefa", "layers": [4, 5]},
    ]
    (folder / "model.json").write_text(json.dumps(known, indent=2))
    return vectors

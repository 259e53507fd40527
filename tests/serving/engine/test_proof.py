"""A model is proved at the start: one input is one image, weights are finite, and images are more than one value."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.engine.onnx_file import non_finite_weights, operators
from serving.engine.repository import ModelError, load_model
from serving.engine.runtime import RANDOM, Runtime
from tiny_models import write_model

Change = Callable[[onnx.ModelProto], None]
ATTRIBUTES: dict[str, Any] = {"RandomNormal": {"shape": [8]}, "RandomUniform": {"shape": [8]}}


def load(repository: Path, folder: Path, id: str, changes: dict[str, Change]) -> Runtime:
    """A model of the tiny repository with graphs changed and hashes right, on one thread."""
    found = load_model(repository / id)
    files = {name: found.read(name) for name in found.files}
    for name, change in changes.items():
        model = onnx.load_from_string(files[name])
        change(model)
        files[name] = model.SerializeToString()
    shutil.rmtree(folder / id, ignore_errors=True)
    write_model(folder / id, found.document, files)
    return Runtime(load_model(folder / id), threads=1)


def insert(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Puts `nodes`, which read "z" and end with "new", before all that read "z"."""
    for node in model.graph.node:
        node.input[:] = ["new" if name == "z" else name for name in node.input]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def constant(model: onnx.ModelProto, name: str, value: np.ndarray | np.generic) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def random(operator: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        inputs = [] if operator in ATTRIBUTES else ["z"]
        noise = helper.make_node(operator, inputs, ["noise"], **ATTRIBUTES.get(operator, {}))
        insert(model, noise, helper.make_node("Add", ["z", "noise"], ["new"]))

    return change


@pytest.mark.parametrize("operator", sorted(RANDOM))
def test_a_random_operator_is_rejected_by_name(repository_folder: Path, tmp_path: Path, operator: str):
    with pytest.raises(ModelError, match=rf"tiny-dcgan: `generator\.onnx` contains the random operator {operator};"):
        load(repository_folder, tmp_path, "tiny-dcgan", {"generator.onnx": random(operator)})
    for name in ("mapping.onnx", "synthesis.onnx"):
        with pytest.raises(ModelError, match=rf"tiny-style: `{name}` contains the random operator {operator};"):
            load(repository_folder, tmp_path, "tiny-style", {name: random(operator)})


def test_a_random_operator_is_found_in_branches_and_functions():
    noise = helper.make_node("RandomUniformLike", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy")
    branch = helper.make_graph([noise], "branch", [], [y])
    either = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], "g", [x], [y]
    )
    function = helper.make_function("own", "Noise", ["x"], ["y"], [noise], [helper.make_opsetid("", 17)])
    called = helper.make_graph([helper.make_node("Noise", ["x"], ["y"], domain="own")], "g", [x], [y])
    for model in (helper.make_model(either), helper.make_model(called, functions=[function])):
        assert "RandomUniformLike" in operators(model.SerializeToString())


def drop_out(model: onnx.ModelProto) -> None:
    ratio, training = constant(model, "ratio", np.float32(0.5)), constant(model, "training", np.array(True))
    insert(model, helper.make_node("Dropout", ["z", ratio, training], ["new"]))


def normalize_batch(model: onnx.ModelProto) -> None:
    """As a batch norm does that was exported in training mode."""
    mean = helper.make_node("ReduceMean", ["z"], ["mean"], axes=[0], keepdims=1)
    half = helper.make_node("Mul", ["mean", constant(model, "half", np.float32(0.5))], ["shift"])
    insert(model, mean, half, helper.make_node("Sub", ["z", "shift"], ["new"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_out, "gives two runs of one input different results; it contains Dropout"),
        (normalize_batch, "gives two batches with one input different results"),
    ],
)
def test_an_image_depends_on_its_latent_alone(repository_folder: Path, tmp_path: Path, change: Change, message: str):
    with pytest.raises(ModelError, match=rf"tiny-dcgan: `generator\.onnx` {message}"):
        load(repository_folder, tmp_path, "tiny-dcgan", {"generator.onnx": change})
    with pytest.raises(ModelError, match=rf"tiny-style: `mapping\.onnx` {message}"):
        load(repository_folder, tmp_path, "tiny-style", {"mapping.onnx": change})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "bfloat16", "float_data", "double_data"])
def test_weights_are_finite_in_every_type(dtype: str, value: float):
    def tensor(values: list[float]) -> TensorProto:
        if dtype == "bfloat16":
            upper = (np.array(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
            return TensorProto(name="w", data_type=TensorProto.BFLOAT16, dims=[3], raw_data=upper.tobytes())
        if dtype.endswith("_data"):
            kind = TensorProto.FLOAT if dtype == "float_data" else TensorProto.DOUBLE
            return helper.make_tensor("w", kind, [len(values)], values)
        return numpy_helper.from_array(np.array(values, dtype), "w")

    def model(values: list[float], where: str) -> bytes:
        node = helper.make_node("Identity", ["x"], ["y"])
        weights = [tensor(values)] if where == "initializer" else []
        nodes = [node] if weights else [node, helper.make_node("Constant", [], ["c"], value=tensor(values))]
        info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy"]
        return helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:], weights)).SerializeToString()

    for where in ("initializer", "constant"):
        assert non_finite_weights(model([1.0, value, 2.0], where)) == ["w"]
        assert non_finite_weights(model([1.0, -60000.0, 0.0], where)) == []


def bounded(model: onnx.ModelProto) -> None:
    bound = constant(model, "bound", np.float32(np.inf))
    insert(model, helper.make_node("Clip", ["z", "", bound], ["new"]))


def test_an_infinite_bound_is_no_weight(repository_folder: Path, tmp_path: Path):
    load(repository_folder, tmp_path, "tiny-dcgan", {"generator.onnx": bounded})


def root_of_negative(model: onnx.ModelProto) -> None:
    minus = constant(model, "minus", np.float32(-1))
    insert(
        model,
        helper.make_node("Abs", ["z"], ["positive"]),
        helper.make_node("Mul", ["positive", minus], ["negative"]),
        helper.make_node("Sqrt", ["negative"], ["new"]),
    )


def no_signal(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            tensor.raw_data = bytes(len(tensor.raw_data))


def saturated(model: onnx.ModelProto) -> None:
    (tanh,) = [node for node in model.graph.node if node.op_type == "Tanh"]
    shift = helper.make_node("Add", [tanh.input[0], constant(model, "large", np.float32(1e6))], ["shifted"])
    model.graph.node.insert(list(model.graph.node).index(tanh), shift)
    tanh.input[0] = "shifted"


@pytest.mark.parametrize(("change", "value"), [(no_signal, 128), (saturated, 255), (root_of_negative, 0)])
def test_images_of_one_value_are_rejected(repository_folder: Path, tmp_path: Path, change: Change, value: int):
    with pytest.raises(ModelError, match=rf"`generator\.onnx` gives constant images \(all pixels are {value}\)\."):
        load(repository_folder, tmp_path, "tiny-dcgan", {"generator.onnx": change})


def test_w_that_is_not_finite_is_rejected(repository_folder: Path, tmp_path: Path):
    with pytest.raises(ModelError, match=r"`mapping\.onnx` gives `w` with non-finite values"):
        load(repository_folder, tmp_path, "tiny-style", {"mapping.onnx": root_of_negative})

"""No weight of a model lies outside the bytes that are hashed, wherever in the graph it hides."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tiny_models
from serving.engine.onnx_file import has_external_data

WEIGHT = numpy_helper.from_array(np.zeros(4, np.float32), "weight")
X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])


def external() -> TensorProto:
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def nowhere() -> TensorProto:
    """Names a place, but does not say that its data is there."""
    tensor = TensorProto()
    tensor.CopyFrom(WEIGHT)
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def initializer(tensor: TensorProto) -> onnx.ModelProto:
    add = helper.make_node("Add", ["x", "weight"], ["y"])
    return helper.make_model(helper.make_graph([add], "g", [X], [Y], [tensor]))


def constant(tensor: TensorProto) -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["weight"], value=tensor)
    return helper.make_model(helper.make_graph([node, helper.make_node("Add", ["x", "weight"], ["y"])], "g", [X], [Y]))


def branch(tensor: TensorProto) -> onnx.ModelProto:
    body = helper.make_graph([helper.make_node("Add", ["x", "weight"], ["y"])], "body", [], [Y], [tensor])
    node = helper.make_node("If", ["condition"], ["y"], then_branch=body, else_branch=body)
    return helper.make_model(helper.make_graph([node], "g", [X], [Y]))


def function(tensor: TensorProto) -> onnx.ModelProto:
    opset = [helper.make_opsetid("", 17)]
    nodes = [
        helper.make_node("Constant", [], ["weight"], value=tensor),
        helper.make_node("Add", ["x", "weight"], ["y"]),
    ]
    body = helper.make_function("own", "Shift", ["x"], ["y"], nodes, opset)
    graph = helper.make_graph([helper.make_node("Shift", ["x"], ["y"], domain="own")], "g", [X], [Y])
    return helper.make_model(graph, functions=[body])


def sparse(tensor: TensorProto) -> onnx.ModelProto:
    indices = numpy_helper.from_array(np.arange(4), "indices")
    weight = helper.make_sparse_tensor(tensor, indices, [8])
    add = helper.make_node("Add", ["x", "weight"], ["y"])
    return helper.make_model(helper.make_graph([add], "g", [X], [Y], sparse_initializer=[weight]))


@pytest.mark.parametrize("place", [initializer, constant, branch, function, sparse])
def test_a_weight_in_another_file_is_found_wherever_it_is(place):
    assert has_external_data(place(external()).SerializeToString())
    assert has_external_data(place(nowhere()).SerializeToString())
    assert not has_external_data(place(WEIGHT).SerializeToString())


def test_real_graphs_keep_their_weights_inside():
    assert not has_external_data(tiny_models.generator(conditional=True, seed=1))
    assert not has_external_data(tiny_models.synthesis(seed=1))


@pytest.mark.parametrize("data", [b"\xff" * 20, b"not a model at all", tiny_models.mapping(seed=1)[:-1]])
def test_what_is_no_protobuf_is_rejected(data: bytes):
    with pytest.raises(ValueError, match=r"truncated|not a protobuf"):
        has_external_data(data)


def test_endless_nesting_is_rejected():
    """A graph in a graph in a graph: refused before the interpreter's stack ends."""

    def field(number: int, data: bytes) -> bytes:
        size, tag = [], bytes([number << 3 | 2])
        n = len(data)
        while n > 127:
            size.append(n & 127 | 128)
            n >>= 7
        return tag + bytes([*size, n]) + data

    graph = b""
    for _ in range(2000):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(ValueError, match="nested too deeply"):
        has_external_data(field(7, graph))

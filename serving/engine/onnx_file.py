"""Looks into the bytes of an ONNX file for weights that are kept outside it, without the onnx package.

ONNX Runtime 1.31, given a model as bytes, reads a tensor marked as external from the working directory: bytes that no
sha256 covers. So such a model is refused before ONNX Runtime sees it.
"""

from collections.abc import Iterator

# Where tensors can be in an ONNX model: for each message of onnx.proto, the fields to descend into. All fields
# that lead to a TensorProto are here, functions and subgraphs of If, Loop and Scan included.
_CHILDREN = {
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of TensorProto
_MAX_DEPTH = 100  # protobuf's own limit

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def has_external_data(model: bytes) -> bool:
    """Whether any tensor of an ONNX model keeps its data in another file. Raises ValueError where it is no protobuf."""
    return _external(memoryview(model), "Model", 0)


def _external(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("is nested too deeply")
    if kind == "Tensor":
        return any(
            number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0) for number, value in _fields(message)
        )
    children = _CHILDREN[kind]
    return any(
        _external(value, children[number], depth + 1)
        for number, value in _fields(message)
        if number in children and isinstance(value, memoryview)
    )


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a protobuf message: its number, and an integer for a varint or the bytes of anything else."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire_type = tag & 7
        if wire_type == _VARINT:
            value, position = _varint(message, position)
        else:
            if wire_type == _BYTES:
                size, position = _varint(message, position)
            elif wire_type in (_FIXED32, _FIXED64):
                size = 4 if wire_type == _FIXED32 else 8
            else:
                raise ValueError("is not a protobuf message")
            value = message[position : position + size]
            position += size
            if position > len(message):
                raise ValueError("is cut short")
        yield tag >> 3, value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position == len(message):
            raise ValueError("is cut short")
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("is not a protobuf message")

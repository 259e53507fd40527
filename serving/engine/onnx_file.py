"""Check the bytes of an ONNX file for content that no model may have, without the onnx package.

ONNX Runtime 1.31, given a model as bytes, reads a tensor marked as external from the working directory. No sha256
covers these bytes, so such a model is rejected before ONNX Runtime loads it.
"""

from collections.abc import Iterator

import numpy as np

# For each message of onnx.proto, the fields that can contain tensors, including functions and the subgraphs of If, Loop
# and Scan.
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


_OP_TYPE = 4  # of NodeProto
_DATA_TYPE, _FLOATS, _NAME, _RAW, _DOUBLES = 2, 4, 8, 9, 10  # of TensorProto
_FLOAT_TYPES = {1: "<f4", 10: "<f2", 11: "<f8", 16: "<u2"}  # by data_type; 16 is bfloat16, which NumPy lacks


def has_external_data(model: bytes) -> bool:
    """Return True if a tensor has its data in another file. Raises ValueError for invalid protobuf."""
    return any(
        number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)
        for kind, message in _messages(memoryview(model), "Model", 0)
        if kind == "Tensor"
        for number, value in _fields(message)
    )


def operators(model: bytes) -> set[str]:
    """Return the names of all operators of an ONNX model. Raises ValueError for invalid protobuf."""
    return {
        bytes(value).decode(errors="replace")
        for kind, message in _messages(memoryview(model), "Model", 0)
        if kind == "Node"
        for number, value in _fields(message)
        if number == _OP_TYPE and isinstance(value, memoryview)
    }


def non_finite_weights(model: bytes) -> list[str]:
    """Return the names of tensors with NaN or infinity. Raises ValueError for invalid protobuf.

    A scalar infinity is the bound of a Clip, not a weight, and is ignored.
    """
    tensors = (message for kind, message in _messages(memoryview(model), "Model", 0) if kind == "Tensor")
    return [name or "a constant" for name, values in map(_floats, tensors) if not _is_finite(values)]


def _floats(tensor: memoryview) -> tuple[str, np.ndarray]:
    """Return the name of a tensor and its floating-point values; integer tensors give an empty array."""
    name, dtype, parts = "", "", list[tuple[str, memoryview]]()
    for number, value in _fields(tensor):
        if number == _DATA_TYPE and isinstance(value, int):
            dtype = _FLOAT_TYPES.get(value, "")
        elif isinstance(value, memoryview):
            if number == _NAME:
                name = bytes(value).decode(errors="replace")
            elif number in (_FLOATS, _RAW, _DOUBLES):
                parts.append(({_FLOATS: "<f4", _DOUBLES: "<f8"}.get(number, ""), value))
    try:
        values = [np.frombuffer(value, own or dtype) for own, value in parts if own or dtype]
    except ValueError:
        raise ValueError("has a truncated tensor") from None
    if dtype == "<u2":  # the upper half of a float32
        values = [
            (part.astype(np.uint32) << 16).view(np.float32) if part.dtype == np.uint16 else part for part in values
        ]
    return name, np.concatenate(values) if len(values) > 1 else values[0] if values else np.empty(0, np.float32)


def _is_finite(values: np.ndarray) -> bool:
    if values.size <= 1:
        return not np.isnan(values).any()
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())  # the sum is faster but may overflow


def _messages(message: memoryview, kind: str, depth: int) -> Iterator[tuple[str, memoryview]]:
    """Yield a message and all nested messages that can hold a tensor or an operator, with their kinds."""
    if depth > _MAX_DEPTH:
        raise ValueError("is nested too deeply")
    yield kind, message
    children = _CHILDREN.get(kind)
    for number, value in _fields(message) if children else ():
        if children and number in children and isinstance(value, memoryview):
            yield from _messages(value, children[number], depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields of a protobuf message: the number, and an integer for a varint or else the bytes."""
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
                raise ValueError("is truncated")
        yield tag >> 3, value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position == len(message):
            raise ValueError("is truncated")
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("is not a protobuf message")

"""Expected inputs and outputs of a model's ONNX graphs, and the check of a session."""

from dataclasses import dataclass

import numpy as np
import onnxruntime

from serving.engine.repository import Model, ModelError

_DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}


@dataclass(frozen=True)
class Tensor:
    """Input or output of a graph: data type, and shape without the batch axis."""

    dtype: type[np.generic]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{np.dtype(self.dtype).name} ({', '.join(('N', *map(str, self.shape)))})"


@dataclass(frozen=True)
class Signature:
    inputs: dict[str, Tensor]
    output: str  # each graph has one
    result: Tensor


def signature(model: Model, name: str) -> Signature:
    """Return the expected inputs and outputs of the file `name` of `model`."""
    z = {"z": Tensor(np.float32, (model.latent_size,))}
    image = Tensor(np.uint8, (model.image.channels, model.image.height, model.image.width))
    label = {} if model.classes is None else {"label": Tensor(np.int64, ())}
    if model.style is None:
        return Signature(z | label, "image", image)
    w = Tensor(np.float32, (model.style.layers, model.style.w_size))
    if name == "mapping.onnx":
        return Signature(z | {"psi": Tensor(np.float32, (model.style.layers,))} | label, "w", w)
    return Signature({"w": w}, "image", image)


def graph_error(model: Model, name: str, reason: str) -> ModelError:
    return ModelError(f"{model.folder}: `{name}` {reason}")


def check_signature(model: Model, name: str, session: onnxruntime.InferenceSession) -> None:
    """Raise ModelError if the inputs or outputs of the graph differ from those that model.json requires."""
    right = signature(model, name)
    for kind, tensors, found in (
        ("inputs", right.inputs, session.get_inputs()),
        ("outputs", {right.output: right.result}, session.get_outputs()),
    ):
        names = [node.name for node in found]
        if sorted(names) != sorted(tensors):
            reason = f"has the {kind} {', '.join(names)}; model.json requires {', '.join(tensors)}."
            raise graph_error(model, name, reason)
        for node in found:
            if not _agrees(node.type, node.shape, tensors[node.name]):
                reason = f"has `{node.name}` as {node.type} {node.shape}; model.json requires {tensors[node.name]}."
                raise graph_error(model, name, reason)


def _agrees(dtype: str, shape: list[int | str | None], right: Tensor) -> bool:
    """Return True if type and shape agree. The batch axis must be dynamic; inference checks other dynamic axes."""
    return (
        _DTYPES.get(dtype) is right.dtype
        and len(shape) == len(right.shape) + 1
        and not isinstance(shape[0], int)
        and all(size == known for size, known in zip(shape[1:], right.shape, strict=True) if isinstance(size, int))
    )

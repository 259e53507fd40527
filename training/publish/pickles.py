"""Pickles of elsewhere, read without running anything that they name.

A pickle is a program: it names callables and calls them. This reader knows a short list of them, each written here and
harmless; whatever else a pickle names becomes an inert Record of what it would have been made from.
"""

import io
import math
import pickle
import pickletools
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.errors import CheckpointError

SCALARS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")  # NumPy's, little-endian


class Record:
    """What a pickle makes of a global that is not on the list: nothing is called, the arguments are kept."""

    module, name = "", ""  # of the global; set on the classes that `_stand_in` makes

    def __new__(cls, *args: Any, **kwargs: Any) -> "Record":
        record = super().__new__(cls)
        record.args, record.state, record.items = args, None, {}
        return record

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args: tuple[Any, ...]
        self.state: Any
        self.items: dict[Any, Any]

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """Keeps nothing: what a list of another class holds is never looked at."""

    add = append


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in a pickle: not read, and not checked, before `tensor`."""

    data: Any  # bytes of a storage, as torch.save wrote it
    offset: Any
    size: Any
    stride: Any

    def tensor(self) -> Tensor:
        """The values as float32. Raises ValueError where the storage is damaged or does not hold them."""
        if not isinstance(self.data, bytes):
            raise ValueError("a tensor without a storage")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that typed storages, which files hold, are on their way out
                storage = torch.load(io.BytesIO(self.data), map_location="cpu", weights_only=True)
                flat = torch.empty(0, dtype=storage.dtype).set_(storage.untyped())
        except Exception as error:  # torch raises whatever its readers meet
            raise ValueError("a storage that torch cannot read") from error
        sizes, strides = self.size, self.stride
        integers = [self.offset, *sizes, *strides] if isinstance(sizes, tuple) and isinstance(strides, tuple) else [-1]
        if any(type(value) is not int or value < 0 for value in integers) or len(sizes) != len(strides):
            raise ValueError("a tensor of an impossible shape")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if math.prod(sizes) > len(flat) or (math.prod(sizes) and last >= len(flat)):
            raise ValueError("a tensor that is larger than its storage")
        return flat.as_strided(sizes, strides, self.offset).to(torch.float32, copy=True)


def _rebuild_tensor(data: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Stored:
    return Stored(data, offset, size, stride)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _storage_bytes(data: Any) -> Any:
    return data


def _scalar(dtype: Any, data: Any = None) -> Any:
    code = dtype.args[0] if isinstance(dtype, Record) and dtype.args else None
    if code not in SCALARS or not isinstance(data, bytes) or len(data) != int(code[1]):
        return None
    return np.frombuffer(data, f"<{code}")[0].item()


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): _storage_bytes,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return ALLOWED[module, name] if (module, name) in ALLOWED else _stand_in(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside of itself")


def _stand_in(module: str, name: str) -> type[Record]:
    return type("Record", (Record,), {"module": module, "name": name})


def load(path: Path) -> Any:
    """The objects of a pickle: plain values, Stored tensors and Records. Raises CheckpointError, OSError."""
    data = path.read_bytes()
    try:
        _scan(data)
        return _Unpickler(io.BytesIO(data), encoding="latin-1").load()
    except MemoryError:
        raise CheckpointError(f"{path}: asks for more memory than there is; it is damaged or hostile.") from None
    except Exception as error:  # whatever a damaged pickle makes its reader do
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise CheckpointError(f"{path}: is no pickle, or one that is cut short or damaged: {reason[:120]}.") from None


def _scan(data: bytes) -> None:
    """Raises ValueError where a pickle is incomplete, or numbers its memo so high that the reader's table explodes."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > count:
            raise ValueError("its memo has gaps")

"""CUDA graphs: the kernels of a step, recorded once and launched as one.

The networks here are small: eagerly, a GPU waits most of a step for Python to launch the next of some hundred kernels.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

WARM_UP = 3  # eager runs of a kind before it is recorded: they allocate, choose algorithms and compile

Scalars = dict[str, Tensor]
Inputs = TypeVar("Inputs", bound=tuple[Any, ...])  # a NamedTuple of tensors, numbers and None


class Graphs(Generic[Inputs]):
    """Runs a computation kind by kind: eagerly at first, and from then on as a replay of what was recorded.

    Of one kind are runs that launch the same kernels on the same tensors; what differs between them is in their inputs,
    which are copied to where the recording reads them. A kind that never comes again is never recorded.
    """

    def __init__(self, device: torch.device, generators: Iterable[torch.Generator]) -> None:
        """`generators` are those that the computation draws from, beside the device's default one."""
        self.device, self.generators = device, list(generators)
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()  # of all kinds: none needs what another left there
        self.inputs: Inputs | None = None
        self.seen: Counter[Hashable] = Counter()
        self.recorded: dict[Hashable, _Recorded] = {}

    def run(self, kind: Hashable, inputs: Inputs, compute: Callable[[Inputs], Scalars]) -> Scalars:
        """`compute` of the inputs -> its scalars. It must change tensors in place and read nothing back to the host."""
        current = torch.cuda.current_stream(self.device)
        held = self._hold(inputs)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            if self.seen[kind] < WARM_UP:
                self.seen[kind] += 1
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")
                    scalars = compute(held)
            else:
                if kind not in self.recorded:
                    self.recorded[kind] = self._record(held, compute)
                scalars = self.recorded[kind].replay()
        current.wait_stream(self.stream)
        return scalars

    def _hold(self, inputs: Inputs) -> Inputs:
        """The inputs in tensors that stay where they are; numbers too, for a recording would keep their values."""
        if self.inputs is None:
            like: Any = type(inputs)
            self.inputs = like(*map(self._place, inputs))
        held: Any = self.inputs
        for place, value in zip(held, inputs, strict=True):
            if isinstance(value, Tensor):
                place.copy_(value)
            elif value is not None:
                place.fill_(value)
        return held

    def _place(self, value: Tensor | float | None) -> Tensor | None:
        if isinstance(value, Tensor):
            return torch.empty_like(value, device=self.device)
        return None if value is None else torch.zeros((), device=self.device)

    def _record(self, held: Inputs, compute: Callable[[Inputs], Scalars]) -> "_Recorded":
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            scalars = compute(held)
            values = torch.stack([value.float() for value in scalars.values()])
        return _Recorded(graph, list(scalars), values)


class _Recorded(NamedTuple):
    graph: torch.cuda.CUDAGraph
    names: list[str]
    values: Tensor  # (names,), written by each replay

    def replay(self) -> Scalars:
        self.graph.replay()
        return dict(zip(self.names, self.values.clone().unbind(), strict=True))

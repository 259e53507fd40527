"""The models that a server holds: loaded, proven by a picture each, and answering through their batchers."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from serving.api.problems import draining, late, overloaded, unknown_model
from serving.engine.batcher import Batcher, Closed, DeadlineExceeded, Overloaded
from serving.engine.repository import Model, load_repository
from serving.engine.runtime import Runtime

DEADLINE_SECONDS = 30
"""From a request's arrival to its last picture. Half of what BentoML waits before it gives up on an answer."""


@cache
def load_runtimes(folder: Path) -> tuple[Runtime, ...]:
    """Every model under `folder`, in order of id, each proved by a real inference. Raises ModelError.

    Loaded once a process: what is checked before the server starts is what it then serves.
    """
    return tuple(Runtime(model) for model in load_repository(folder).values())


@dataclass(frozen=True)
class Generator:
    runtime: Runtime
    batcher: Batcher

    @property
    def model(self) -> Model:
        return self.runtime.model

    async def draw(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Rows of the last graph -> pictures (N, H, W, C) uint8. Raises Problem 503, overloaded or draining, or 504."""
        try:
            return await self.batcher.run(inputs, deadline=time.monotonic() + DEADLINE_SECONDS)
        except Overloaded as error:
            raise overloaded(max(1, math.ceil(error.retry_after))) from None
        except DeadlineExceeded:
            raise late(DEADLINE_SECONDS) from None
        except Closed:
            raise draining() from None


class Generators:
    """Every model of a repository. Made on the event loop that will use it."""

    def __init__(self, folder: Path):
        """Raises ModelError where a model is not what its model.json says, or makes no picture."""
        self._by_id = {runtime.model.id: Generator(runtime, Batcher(runtime)) for runtime in load_runtimes(folder)}

    @property
    def models(self) -> list[Model]:
        return [generator.model for generator in self._by_id.values()]

    def get(self, id: str) -> Generator:
        """Raises Problem 404."""
        if id not in self._by_id:
            raise unknown_model(id, list(self._by_id))
        return self._by_id[id]

    def first(self, able: Callable[[Model], bool]) -> Generator | None:
        """The first model, by id, that is `able`."""
        return next((generator for generator in self._by_id.values() if able(generator.model)), None)

    async def close(self) -> None:
        """Finishes the work that was accepted."""
        await asyncio.gather(*(generator.batcher.close() for generator in self._by_id.values()))

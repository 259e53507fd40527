"""The models that a server holds: loaded, proven by a picture each, and answering through their batchers."""

import asyncio
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from serving.api.http.context import Exchange
from serving.api.http.problems import Problem, draining, late, overloaded, unknown_model
from serving.api.telemetry.metrics import Metrics
from serving.engine.batcher import Batcher, Closed, DeadlineExceeded, Overloaded
from serving.engine.repository import Model, ModelError, load_model, load_repository
from serving.engine.runtime import Runtime

HELD = "GANYMEDE_HELD_{pid}"
"""The variable in which a process tells its workers what to serve: id -> digest, as JSON."""


@cache
def load_runtimes(folder: Path) -> tuple[Runtime, ...]:
    """Every model under `folder`, in order of id, each proved by a real inference. Raises ModelError.

    Loaded once a process: what is checked before the server starts is what it then serves. A worker loads what its
    server started with, whatever has come since; where that is no longer there, it is a ModelError.
    """
    held = os.environ.get(HELD.format(pid=os.getppid()))
    if held is None:
        models = [*load_repository(folder).values()]
    else:
        models = [_load_held(folder / id, digest) for id, digest in json.loads(held).items()]
    return tuple(Runtime(model) for model in models)


def hold(folder: Path) -> None:
    """Has workers that this process starts, now or later, load what it has found itself, and lets go of that."""
    digests = {runtime.model.id: _digest(runtime.model) for runtime in load_runtimes(folder)}
    os.environ[HELD.format(pid=os.getpid())] = json.dumps(digests)
    load_runtimes.cache_clear()


def _load_held(folder: Path, digest: str) -> Model:
    model = load_model(folder)
    if _digest(model) != digest:
        raise ModelError(f"{folder}: is not what it was when the server started.")
    return model


def _digest(model: Model) -> str:
    """Of all that its model.json says, the sha256 of its files included; not of its figures, measured at any time."""
    document = {name: value for name, value in model.document.items() if name != "metrics"}
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


@dataclass(frozen=True)
class Generator:
    runtime: Runtime
    batcher: Batcher
    metrics: Metrics

    @property
    def model(self) -> Model:
        return self.runtime.model

    @contextmanager
    def reserve(self, images: int) -> Iterator[None]:
        """While a request for so many images is planned. Raises Problem 503 where `draw` would, at next to no cost."""
        try:
            with self.batcher.reserve(images):
                yield
        except (Overloaded, Closed) as error:
            raise _problem(error) from None

    def refusal(self, images: int) -> Problem | None:
        """The 503 that `reserve` would raise now, or None."""
        error = self.batcher.refusal(images)
        return None if error is None else _problem(error)

    async def draw(self, inputs: dict[str, np.ndarray], exchange: Exchange) -> np.ndarray:
        """`Batcher.run`. Raises Problem 503, overloaded or draining, or 504."""
        images = len(next(iter(inputs.values())))
        self.metrics.queued(self.model.id, images)
        try:
            return await self.batcher.run(
                inputs,
                client=exchange.client,
                deadline=exchange.deadline,
                times=exchange.times,
                alone=exchange.alone,
            )
        except DeadlineExceeded:
            raise late(exchange.deadline - exchange.arrived) from None
        except (Overloaded, Closed) as error:
            raise _problem(error) from None
        finally:
            self.metrics.queued(self.model.id, -images)


class Generators:
    """Every model of a repository. Made on the event loop that will use it."""

    def __init__(self, folder: Path, metrics: Metrics, *, max_queue: int):
        """Raises ModelError where a model is not what its model.json says, or makes no picture."""
        self._by_id: dict[str, Generator] = {}
        for runtime in load_runtimes(folder):
            id = runtime.model.id
            batcher = Batcher(runtime, max_queue=max_queue, on_batch=partial(metrics.batch, id))
            self._by_id[id] = Generator(runtime, batcher, metrics)

    def __iter__(self) -> Iterator[Generator]:
        """In order of id."""
        return iter(self._by_id.values())

    @property
    def models(self) -> list[Model]:
        return [generator.model for generator in self]

    @property
    def busy(self) -> bool:
        """Whether a model's queue may be too full for the next request."""
        return any(generator.batcher.busy for generator in self)

    def get(self, id: str) -> Generator:
        """Raises Problem 404."""
        if id not in self._by_id:
            raise unknown_model(id, list(self._by_id))
        return self._by_id[id]

    def first(self, able: Callable[[Model], bool]) -> Generator | None:
        """The first model, by id, that is `able`."""
        return next((generator for generator in self if able(generator.model)), None)

    async def close(self) -> None:
        """Finishes the work that was accepted."""
        await asyncio.gather(*(generator.batcher.close() for generator in self))


def _problem(error: Overloaded | Closed) -> Problem:
    return draining() if isinstance(error, Closed) else overloaded(retry_after(error.retry_after))


def retry_after(seconds: float) -> int:
    """`Retry-After` counts whole seconds."""
    return max(1, math.ceil(seconds))

"""The models that a server holds: loaded, verified by an inference, and reached through their batchers."""

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from serving.api.http.context import RequestContext
from serving.api.http.problems import Problem, deadline_exceeded, draining, overloaded, retry_after, unknown_model
from serving.api.telemetry.metrics import Metrics
from serving.engine.batcher import Batcher, Closed, DeadlineExceeded, Overloaded
from serving.engine.repository import Model, ModelError, load_model, load_repository
from serving.engine.runtime import Runtime

PINNED = "GANYMEDE_PINNED_MODELS"
"""The variable in which a server tells its workers what to serve, as JSON: its process id, and id -> digest. Workers
that start later load the same models, whatever has been copied into the repository since."""


@cache
def load_runtimes(folder: Path) -> tuple[Runtime, ...]:
    """Return every model under `folder` in order of id, each verified by an inference. Raises ModelError.

    They are loaded once a process. Where its server has pinned models, those are loaded, or it is a ModelError.
    """
    server, digests = json.loads(os.environ.get(PINNED, "[0, {}]"))
    if server == os.getppid():
        models = [_load_pinned(folder / id, digest) for id, digest in digests.items()]
    else:
        models = [*load_repository(folder).values()]
    return tuple(Runtime(model) for model in models)


def pin(models: Iterable[Model]) -> None:
    """Make workers that this process starts load these models and no others."""
    os.environ[PINNED] = json.dumps([os.getpid(), {model.id: _digest(model) for model in models}])


def _load_pinned(folder: Path, digest: str) -> Model:
    model = load_model(folder)
    if _digest(model) != digest:
        raise ModelError(f"{folder}: has changed since the server started.")
    return model


def _digest(model: Model) -> str:
    """Hash model.json, which has the sha256 of each file, without the metrics, which may be measured at any time."""
    document = {name: value for name, value in model.document.items() if name != "metrics"}
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


@dataclass(frozen=True)
class ServedModel:
    runtime: Runtime
    batcher: Batcher
    metrics: Metrics

    @property
    def model(self) -> Model:
        return self.runtime.model

    @contextmanager
    def reserve(self, images: int) -> Iterator[None]:
        """Hold a place in the queue while a request is planned. Raises Problem 503 where there is none."""
        try:
            with self.batcher.reserve(images):
                yield
        except (Overloaded, Closed) as error:
            raise _problem(error) from None

    def check_queue(self, images: int) -> None:
        """Raises the Problem 503 that `reserve` would raise now."""
        error = self.batcher.refusal(images)
        if error is not None:
            raise _problem(error)

    async def generate(self, inputs: dict[str, np.ndarray], context: RequestContext) -> np.ndarray:
        """Return the images (N, H, W, C) uint8 of `inputs` (see `Batcher.run`). Raises Problem 503 or 504."""
        images = len(next(iter(inputs.values())))
        self.metrics.queued(self.model.id, images)
        try:
            return await self.batcher.run(
                inputs,
                client=context.client,
                deadline=context.deadline,
                times=context.times,
                alone=context.alone,
            )
        except DeadlineExceeded:
            raise deadline_exceeded(context.deadline - context.arrived) from None
        except (Overloaded, Closed) as error:
            raise _problem(error) from None
        finally:
            self.metrics.queued(self.model.id, -images)


class ServedModels:
    """Every model of a repository, between `load` and `close`."""

    def __init__(self, metrics: Metrics, *, max_queue: int):
        self._metrics = metrics
        self._max_queue = max_queue
        self._by_id: dict[str, ServedModel] = {}

    def load(self, folder: Path) -> None:
        """Load the repository `folder`, once. Raises ModelError where a model cannot be served."""
        if self._by_id:
            return
        for runtime in load_runtimes(folder):
            id = runtime.model.id
            batcher = Batcher(runtime, max_queue=self._max_queue, on_batch=partial(self._metrics.batch, id))
            self._by_id[id] = ServedModel(runtime, batcher, self._metrics)

    def __iter__(self) -> Iterator[ServedModel]:
        """In order of id."""
        return iter(self._by_id.values())

    @property
    def models(self) -> list[Model]:
        return [served.model for served in self]

    def get(self, id: str) -> ServedModel:
        """Return a model. Raises Problem 404."""
        if id not in self._by_id:
            raise unknown_model(id, list(self._by_id))
        return self._by_id[id]

    def first(self, suits: Callable[[Model], bool]) -> ServedModel | None:
        """Return the first model, by id, that suits."""
        return next((served for served in self if suits(served.model)), None)

    async def close(self) -> None:
        """Finish the accepted work and end the batchers' threads."""
        await asyncio.gather(*(served.batcher.close() for served in self))


def _problem(error: Overloaded | Closed) -> Problem:
    return draining() if isinstance(error, Closed) else overloaded(retry_after(error.retry_after))

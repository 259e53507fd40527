"""Engines that generate shards: local processes, servers, or a Ray cluster. All write the same bytes."""

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from serving.bulk import cluster, processes
from serving.bulk.errors import BulkError
from serving.bulk.job import Job, Shard
from serving.bulk.sources import LocalSource, ServerSource, Source, subject_of_model, subject_of_servers
from serving.bulk.statistics import Statistics
from serving.bulk.storage import Store
from serving.engine.cpus import available_cpus
from serving.engine.repository import ModelError, load_model


class Local:
    """Processes on this machine, each with an ONNX Runtime session; default: one for each CPU core."""

    name = "local"

    def __init__(self, model: str | Path, *, workers: int | None = None):
        """model: its folder. Raises BulkError."""
        self._folder = Path(model)
        self.workers = workers or available_cpus()
        self.subject = subject_of_model(_load(model))

    def source(self) -> Source:
        return LocalSource(self._folder)

    def __call__(self, job: Job, shards: Sequence[Shard], store: Store) -> Generator[Statistics]:
        return processes.run(job, shards, store, partial(LocalSource, self._folder), self.workers)


class Servers:
    """Servers compute images; processes on this machine request and pack them (default: one for each CPU core).

    The API key comes from the environment, GANYMEDE_API_KEY.
    """

    name = "server"

    def __init__(self, urls: Sequence[str], model: str, *, workers: int | None = None):
        """model: its id. Raises BulkError if no server responds or one has other files of the model."""
        self._urls = tuple(urls)
        self.workers = workers or available_cpus()
        self.subject = subject_of_servers(urls, model)

    def source(self) -> Source:
        return ServerSource(self._urls)

    def __call__(self, job: Job, shards: Sequence[Shard], store: Store) -> Generator[Statistics]:
        return processes.run(job, shards, store, partial(ServerSource, self._urls), self.workers)


class Ray:
    """Ray Data actors; default: one for each GPU of the cluster, or else for each CPU core."""

    name = "ray"

    def __init__(self, model: str | Path, *, workers: int | None = None):
        """model: its folder, on this machine. Raises BulkError."""
        self._folder = Path(model)
        self._model = _load(model)
        self._workers = workers
        self.workers = workers or available_cpus()
        self.subject = subject_of_model(self._model)

    def source(self) -> Source:
        return LocalSource(self._folder)

    def __call__(self, job: Job, shards: Sequence[Shard], store: Store) -> Generator[Statistics]:
        return cluster.run(job, shards, store, self._model, self._workers)


def _load(folder: str | Path):
    try:
        return load_model(folder)
    except ModelError as error:
        raise BulkError(str(error)) from error

"""Where a worker has its pictures from: a model in its own process, or servers. Both give the same pictures."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from serving.bulk.errors import BulkError
from serving.bulk.job import Job, Shard, Subject
from serving.client import Client, GanymedeError, ServerError, TransportError
from serving.engine import generation
from serving.engine.repository import Model, ModelError, load_model
from serving.engine.runtime import Runtime

BATCH = 256  # pictures; as many as a server takes in one request
IN_FLIGHT = 2  # requests of one worker to each server: one is computed while another is packed


class Batch(NamedTuple):
    start: int
    pictures: np.ndarray  # (N, H, W, C) uint8
    labels: list[int] | None


class Source(Protocol):
    def batches(self, job: Job, shard: Shard) -> Iterator[Batch]:
        """The pictures of a shard, in order."""
        ...


class LocalSource:
    """The model's own session on one thread, or on CUDA where that works. Made in the process that uses it."""

    def __init__(self, folder: Path):
        try:
            self.runtime = Runtime(load_model(folder), threads=1)
        except ModelError as error:
            raise BulkError(str(error)) from error

    def batches(self, job: Job, shard: Shard) -> Iterator[Batch]:
        if self.runtime.model.sha256 != job.subject.sha256:
            raise BulkError(f"{self.runtime.model.folder}: the model's files are no longer those the run began with.")
        for start, n, labels in _cut(job, shard):
            plan = generation.sample(
                self.runtime, n=n, seed=job.seed, start=start, labels=labels, truncation=job.truncation
            )
            yield Batch(start, self.runtime.synthesize(plan.inputs), labels)


class ServerSource:
    """Servers in turn, request by request. One that fails is passed over for that request, while another answers."""

    def __init__(self, urls: Sequence[str]):
        self._clients = [Client(url) for url in urls]
        self._pool = ThreadPoolExecutor(IN_FLIGHT * len(urls), thread_name_prefix="fetch")
        self._turn = 0

    def batches(self, job: Job, shard: Shard) -> Iterator[Batch]:
        todo, waiting = _cut(job, shard), deque[Future[Batch]]()

        def ask(n: int) -> None:
            for start, count, labels in islice(todo, n):
                self._turn += 1
                waiting.append(self._pool.submit(self._fetch, self._turn, job, start, count, labels))

        ask(IN_FLIGHT * len(self._clients))
        try:
            while waiting:
                batch = waiting.popleft().result()
                ask(1)
                yield batch
        finally:
            for future in waiting:
                future.cancel()

    def _fetch(self, turn: int, job: Job, start: int, n: int, labels: list[int] | None) -> Batch:
        clients = [self._clients[(turn + i) % len(self._clients)] for i in range(len(self._clients))]
        for last, client in zip([*[False] * (len(clients) - 1), True], clients, strict=True):
            try:
                found = client.sample(
                    job.subject.id, n=n, seed=job.seed, start=start, labels=labels, truncation=job.truncation
                )
            except (TransportError, ServerError) as error:
                if last:
                    raise BulkError(f"No server answers; the last error: {error}") from error
                continue
            except GanymedeError as error:
                raise BulkError(f"{client.base_url}: {error} {error.remedy}") from error
            if found.model_sha256 != job.subject.sha256:
                raise BulkError(_other_files(client.base_url, job.subject, found.model_sha256))
            return Batch(start, found.array, labels)
        raise AssertionError("there is at least one server")


def subject_of_model(model: Model) -> Subject:
    spec = model.image
    return Subject(
        model.id, model.sha256, spec.height, spec.width, spec.channels, model.classes, model.style is not None
    )


def subject_of_servers(urls: Sequence[str], id: str) -> Subject:
    """What all of them agree on. Raises BulkError where one does not answer, or has other files of the model."""
    subject: Subject | None = None
    for url in urls:
        try:
            with Client(url) as client:
                model = client.model(id)
        except (GanymedeError, ValueError) as error:
            raise BulkError(f"`engine server {url}`: {error}") from error
        if subject is not None and model.sha256 != subject.sha256:
            raise BulkError(_other_files(url, subject, model.sha256))
        subject = Subject(
            model.id,
            model.sha256,
            model.height,
            model.width,
            model.channels,
            model.classes,
            model.style_layers is not None,
        )
    if subject is None:
        raise BulkError("`engine server` needs at least one URL.")
    return subject


def _other_files(url: str, subject: Subject, found: str) -> str:
    return f"{url} has other files of {subject.id} (sha256 {found[:12]}) than the run has ({subject.sha256[:12]})."


def _cut(job: Job, shard: Shard) -> Iterator[tuple[int, int, list[int] | None]]:
    """A shard in batches: start, how many, and the class of each."""
    for start in range(shard.start, shard.start + shard.n, BATCH):
        n = min(BATCH, shard.start + shard.n - start)
        yield start, n, None if job.labels is None else job.labels.of(job.seed, start, n)

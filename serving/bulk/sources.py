"""Image sources of a worker: a model in its own process, or servers. Both give the same images."""

import logging
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Event
from typing import NamedTuple, Protocol

import numpy as np

from serving.bulk.errors import BulkError
from serving.bulk.job import Job, Shard, Subject
from serving.client import Client, GanymedeError, RateLimitedError
from serving.client.connection import DEFAULT_RETRIES
from serving.client.retries import FIRST_PAUSE, LONGEST_PAUSE, may_pass, told_to_wait
from serving.engine import generation
from serving.engine.directions import Edit
from serving.engine.repository import Model, ModelError, load_model
from serving.engine.runtime import Runtime

BATCH = 256  # images; the limit of a server for one request ...
BATCH_BYTES = 2**24  # ... fewer for large images, because a worker holds several batches
IN_FLIGHT = 2  # requests of one worker to each server: one is computed while another is packed
FIRST_SECONDS = 10.0  # timeout for the model metadata of a server
LONGEST_REST = 300.0  # seconds; maximum back-off of a server
PATIENCE = 600.0  # seconds of failures only; longer than a restart of a server or network

logger = logging.getLogger(__name__)


class Batch(NamedTuple):
    start: int
    images: np.ndarray  # (N, H, W, C) uint8
    labels: list[int] | None


class Source(Protocol):
    def batches(self, job: Job, shard: Shard) -> Iterator[Batch]:
        """Yield the images of a shard in order."""
        ...


class LocalSource:
    """Session of the model on one thread, or on CUDA if it works. Created in the process that uses it."""

    def __init__(self, folder: Path):
        try:
            self.runtime = Runtime(load_model(folder), threads=1)
        except ModelError as error:
            raise BulkError(str(error)) from error

    def batches(self, job: Job, shard: Shard) -> Iterator[Batch]:
        if self.runtime.model.sha256 != job.subject.sha256:
            raise BulkError(f"{self.runtime.model.folder}: the model's files have changed since the run started.")
        for start, n, labels in _cut(job, shard):
            plan = generation.sample(
                self.runtime,
                n=n,
                seed=job.seed,
                start=start,
                labels=labels,
                truncation=job.truncation,
                edits=job.edits,
            )
            yield Batch(start, self.runtime.synthesize(plan.inputs), labels)


class Server:
    """Server with its back-off state. A failed server is skipped while others respond, for longer each time."""

    def __init__(self, url: str):
        self.client = Client(url, retries=0)  # retries are handled here
        self.error: GanymedeError | None = None  # of the last attempt
        self._back = 0.0  # by time.monotonic
        self._rest = 0.0  # seconds; 0 also if the server sent Retry-After

    @property
    def left_out(self) -> float:
        """Remaining back-off in seconds."""
        return max(0.0, self._back - time.monotonic())

    @property
    def pause(self) -> float:
        """Seconds before the next attempt if no other server responds."""
        return min(self.left_out, LONGEST_PAUSE) if self._rest else self.left_out

    def answered(self) -> None:
        self.error, self._back, self._rest = None, 0.0, 0.0

    def failed(self, error: GanymedeError, began: float) -> None:
        """Record a failed attempt that started at `began`."""
        now, told = time.monotonic(), told_to_wait(error)
        if told:
            self._rest = 0.0
        elif began >= self._back:  # concurrent attempts fail together; count them once
            self._rest = min(LONGEST_REST, max(FIRST_PAUSE, 2 * self._rest, now - began))
        self.error, self._back = error, now + (told or self._rest)


class ServerSource:
    """Servers in turn. A failed request goes to another server, or is retried if there is none."""

    def __init__(self, urls: Sequence[str]):
        self._servers = [Server(url) for url in urls]
        self._pool = ThreadPoolExecutor(IN_FLIGHT * len(urls), thread_name_prefix="fetch")
        self._turn = 0
        self._answered = 0.0  # last response of any server, by time.monotonic

    def batches(self, job: Job, shard: Shard) -> Iterator[Batch]:
        todo, waiting, stopped = _cut(job, shard), deque[Future[Batch]](), Event()

        def ask(n: int) -> None:
            for start, count, labels in islice(todo, n):
                self._turn += 1
                waiting.append(self._pool.submit(self._fetch, self._turn, stopped, job, start, count, labels))

        ask(IN_FLIGHT * len(self._servers))
        try:
            while waiting:
                batch = waiting.popleft().result()
                ask(1)
                yield batch
        finally:
            stopped.set()
            for future in waiting:
                future.cancel()

    def _fetch(self, turn: int, stopped: Event, job: Job, start: int, n: int, labels: list[int] | None) -> Batch:
        first = time.monotonic()
        while True:
            server = self._next(turn)
            url, last, pause = server.client.base_url, server.error, server.pause
            if last and time.monotonic() + pause > max(first, self._answered) + PATIENCE:
                minutes = f"{PATIENCE / 60:g} minutes"
                raise BulkError(f"No server returned images for {minutes}; the last error is from {url}: {last}")
            if stopped.wait(pause and pause + random.uniform(0, FIRST_PAUSE)):
                raise BulkError("The images are no longer needed.")
            began = time.monotonic()
            try:
                found = server.client.sample(
                    job.subject.id,
                    n=n,
                    seed=job.seed,
                    start=start,
                    labels=labels,
                    truncation=job.truncation,
                    edits=[_sent(edit) for edit in job.edits],
                )
            except GanymedeError as error:
                if not may_pass(error):
                    raise BulkError(f"{url}: {error} {error.remedy}") from error
                server.failed(error, began)
                if isinstance(error, RateLimitedError):  # also a response; the wait depends on the limit
                    self._answered = time.monotonic()
                continue
            server.answered()
            self._answered = time.monotonic()
            if found.model_sha256 != job.subject.sha256:
                raise BulkError(_other_files(url, job.subject, found.model_sha256))
            return Batch(start, found.array, labels)

    def _next(self, turn: int) -> Server:
        """Return the next available server, or the one with the shortest back-off."""
        well = [server for server in self._servers if not server.left_out]
        if well:
            return well[turn % len(well)]
        return min(self._servers, key=lambda server: (server.pause, server.left_out))


def subject_of_model(model: Model) -> Subject:
    spec = model.image
    return Subject(
        model.id,
        model.sha256,
        spec.height,
        spec.width,
        spec.channels,
        model.classes,
        model.style is not None,
        model.latent_source,
        tuple(model.directions),
    )


def subject_of_servers(urls: Sequence[str], id: str) -> Subject:
    """Return the model metadata of all servers that respond. Raises BulkError if none does or the files differ."""
    subject: Subject | None = None
    silent: dict[str, GanymedeError] = {}
    retries = 0 if len(urls) > 1 else DEFAULT_RETRIES  # do not wait for one while others may respond
    for url in urls:
        try:
            with Client(url, timeout=FIRST_SECONDS, retries=retries) as client:
                model = client.model(id)
        except (GanymedeError, ValueError) as error:
            if isinstance(error, GanymedeError) and may_pass(error):
                silent[url] = error
                continue
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
            model.latents,
            model.directions,
        )
    for url, error in silent.items():
        if subject is None:
            raise BulkError(f"`engine server {url}`: {error}") from error
        logger.warning("`engine server %s` is skipped while it fails: %s", url, error)
    if subject is None:
        raise BulkError("`engine server` needs at least one URL.")
    return subject


def _sent(edit: Edit) -> tuple[str, float] | tuple[str, float, tuple[int, ...]]:
    """Return an edit as the client takes it."""
    step = (edit.direction, edit.strength)
    return step if edit.layers is None else (*step, edit.layers)


def _other_files(url: str, subject: Subject, found: str) -> str:
    return f"{url} has other files of {subject.id} (sha256 {found[:12]}) than the run has ({subject.sha256[:12]})."


def _cut(job: Job, shard: Shard) -> Iterator[tuple[int, int, list[int] | None]]:
    """Yield the batches of a shard: start, length, and class labels."""
    subject = job.subject
    size = min(BATCH, max(1, BATCH_BYTES // (subject.height * subject.width * subject.channels)))
    for start in range(shard.start, shard.start + shard.n, size):
        n = min(size, shard.start + shard.n - start)
        yield start, n, None if job.labels is None else job.labels.of(job.seed, start, n)

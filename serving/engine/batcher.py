"""Joins the concurrent requests for one model into micro-batches, counted in images, computed one after another.

A micro-batch is cut from what waits at the moment the model is free: nothing waits for company while the model is idle.
Every waiting request has a fair share in it, so one for a single image is not stuck behind one for 256.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Condition, Thread

import numpy as np

from serving.engine.runtime import Runtime

MICRO_BATCH_SECONDS = 0.02  # about how long a micro-batch takes: what a newcomer, a cancelled or a late request waits
SMOOTHING = 0.2  # the weight of the newest micro-batch in the measured speed


class Overloaded(Exception):
    """The queue is full. `retry_after`: seconds until what waits now is computed, at the speed measured."""

    def __init__(self, retry_after: float):
        super().__init__(f"The queue is full; it is worked off in about {retry_after:.1f} s.")
        self.retry_after = retry_after


class DeadlineExceeded(Exception):
    """The deadline of a request passed before its last image was begun."""


class Closed(Exception):
    """The batcher takes no new requests; it finishes those it accepted."""


@dataclass(slots=True)
class Times:
    """Where the time of a request went, in seconds."""

    queue: float = 0.0  # from its arrival to the first micro-batch with an image of it
    compute: float = 0.0  # from there to its last image


class _Request:
    """One call of `run`, and how far it is."""

    def __init__(self, inputs: dict[str, np.ndarray], deadline: float | None):
        self.inputs = inputs
        self.deadline = deadline
        self.arrived = time.monotonic()
        self.began: float | None = None
        self.size = len(next(iter(inputs.values())))
        self.taken = 0  # rows that went into micro-batches, or never will
        self.parts: list[np.ndarray] = []  # the pictures so far; the worker thread's own
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[np.ndarray] = self.loop.create_future()

    def settle(self, outcome: np.ndarray | Exception) -> None:
        """Answers, from the worker thread; a request that was cancelled in the meantime hears nothing."""

        def answer() -> None:
            if self.future.done():
                return
            if isinstance(outcome, Exception):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)

        with suppress(RuntimeError):  # its event loop is closed: nobody waits there
            self.loop.call_soon_threadsafe(answer)


class Batcher:
    """The queue of one model, and the thread that works it off.

    max_batch: images in a micro-batch, at most. max_queue: images waiting or under way; a request that would exceed it
    is refused, but not by an empty queue, so that no request is too large for ever. on_batch: told the images and the
    seconds of each micro-batch, on the thread that computes them.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        max_batch: int = 64,
        max_queue: int = 2048,
        on_batch: Callable[[int, float], None] | None = None,
    ):
        self._runtime = runtime
        self._on_batch = on_batch
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._changed = Condition()  # guards what follows, and `taken` of the requests
        self._seconds_per_image = MICRO_BATCH_SECONDS / runtime.threads  # until it is measured
        self._requests: deque[_Request] = deque()  # those with rows still to take
        self._images = 0  # waiting or under way
        self._reserved = 0  # for requests that are being prepared
        self._computed = 0
        self._closed = False
        self._thread = Thread(target=self._work, name=f"batcher-{runtime.model.id}", daemon=True)
        self._thread.start()

    @property
    def images(self) -> int:
        """How many images wait or are under way."""
        return self._images

    @property
    def computed(self) -> int:
        """How many images were computed since the start: as long as it grows, the model works."""
        return self._computed

    @contextmanager
    def reserve(self, images: int) -> Iterator[None]:
        """A place for a request that is being prepared; it is free again for `run` when the block ends.

        So one that will be refused is refused at once. Raises Overloaded or Closed.
        """
        with self._changed:
            self._check(images)
            self._reserved += images
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= images

    async def run(
        self, inputs: dict[str, np.ndarray], *, deadline: float | None = None, times: Times | None = None
    ) -> np.ndarray:
        """Rows of the last graph, as Runtime.synthesize takes them -> pictures (N, H, W, C) uint8.

        deadline: on the clock of time.monotonic(). Cancelled and late requests are dropped between micro-batches.
        times: filled in with where the time went. Raises Overloaded, DeadlineExceeded, Closed, or what the inference
        raised.
        """
        request = _Request(inputs, deadline)
        with self._changed:
            self._check(request.size)
            self._requests.append(request)
            self._images += request.size
            self._changed.notify()
        try:
            return await request.future
        finally:
            with self._changed:
                self._drop(request)  # cancelled: its remaining rows are not computed
            if times is not None:
                ended = time.monotonic()
                began = ended if request.began is None else request.began
                times.queue, times.compute = began - request.arrived, ended - began

    async def close(self) -> None:
        """Refuses new requests, finishes those it accepted, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    def _check(self, images: int) -> None:
        if self._closed:
            raise Closed("The batcher is closed.")
        before = self._images + self._reserved
        if before and before + images > self._max_queue:
            raise Overloaded(before * self._seconds_per_image)

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                self._deliver(batch, self._compute(batch))
            except Exception as error:  # fails the requests of this micro-batch; the thread lives on
                for request, _ in batch:
                    with self._changed:
                        self._drop(request)
                    request.settle(error)

    def _compute(self, batch: list[tuple[_Request, slice]]) -> np.ndarray:
        n = sum(rows.stop - rows.start for _, rows in batch)
        started = time.perf_counter()
        try:
            pictures = self._runtime.synthesize(_join(batch))
            self._computed += n
            return pictures
        finally:
            seconds = time.perf_counter() - started
            with self._changed:
                self._images -= n
                self._seconds_per_image += SMOOTHING * (seconds / n - self._seconds_per_image)
            if self._on_batch is not None:
                self._on_batch(n, seconds)

    def _next_batch(self) -> list[tuple[_Request, slice]]:
        """Waits for requests and cuts the next micro-batch from them; empty once closed and all is done."""
        with self._changed:
            while True:
                while not self._requests and not self._closed:
                    self._changed.wait()
                self._drop_late()
                if self._requests:
                    return self._cut()
                if self._closed:
                    return []

    def _cut(self) -> list[tuple[_Request, slice]]:
        """Max-min fair: what a small request leaves of its share goes to larger ones, whose rest queues anew."""
        room = max(self._runtime.threads, min(self._max_batch, int(MICRO_BATCH_SECONDS / self._seconds_per_image)))
        sharing = [self._requests.popleft() for _ in range(min(room, len(self._requests)))]
        batch, now = [], time.monotonic()
        for i, request in enumerate(sorted(sharing, key=lambda request: request.size - request.taken)):
            share = min(request.size - request.taken, room // (len(sharing) - i))
            if request.began is None:
                request.began = now
            batch.append((request, slice(request.taken, request.taken + share)))
            request.taken += share
            room -= share
        self._requests.extend(request for request in sharing if request.taken < request.size)
        return batch

    def _drop_late(self) -> None:
        now = time.monotonic()
        for request in [r for r in self._requests if r.deadline is not None and r.deadline <= now]:
            self._drop(request)
            request.settle(DeadlineExceeded("The deadline passed before the last image was begun."))

    def _drop(self, request: _Request) -> None:
        """Takes a request out of the queue, with the rows that were not begun."""
        if request.taken < request.size:
            self._requests.remove(request)
            self._images -= request.size - request.taken
            request.taken = request.size

    def _deliver(self, batch: list[tuple[_Request, slice]], pictures: np.ndarray) -> None:
        position = 0
        for request, rows in batch:
            count = rows.stop - rows.start
            request.parts.append(pictures[position : position + count])
            position += count
            if rows.stop == request.size:  # rows are taken in order, so these were the last
                request.settle(request.parts[0] if len(request.parts) == 1 else np.concatenate(request.parts))


def _join(batch: list[tuple[_Request, slice]]) -> dict[str, np.ndarray]:
    """The inputs of a micro-batch, rows one request after another."""
    return {
        name: np.concatenate([request.inputs[name][rows] for request, rows in batch]) for name in batch[0][0].inputs
    }

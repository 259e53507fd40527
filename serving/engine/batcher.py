"""Join concurrent requests for one model into micro-batches, counted in images.

When a thread of the model is free, it takes a micro-batch from the queue and computes it. A request never waits for
other requests while a thread is idle, and no thread waits for another. The fair queue selects the images.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from threading import Condition, Thread

import numpy as np

from serving.engine.fair_queue import Batch, FairQueue, Request
from serving.engine.runtime import Runtime

MICRO_BATCH_SECONDS = 0.01  # target duration of a micro-batch; bounds the wait of new, cancelled and late requests
ALONE_SECONDS = 0.001  # work up to this runs on the event loop; two thread switches would cost a third of it
SMOOTHING = 0.2  # weight of the newest micro-batch in the measured throughput


class Overloaded(Exception):
    """The queue is full. `retry_after`: seconds to compute the waiting images at the measured throughput."""

    def __init__(self, retry_after: float):
        super().__init__(f"The queue is full; retry in about {retry_after:.1f} s.")
        self.retry_after = retry_after


class DeadlineExceeded(Exception):
    """The deadline of a request passed before its last image was started."""


class Closed(Exception):
    """The batcher accepts no new requests. It finishes the accepted ones."""


@dataclass(slots=True)
class Times:
    """Queue and compute time of a request, in seconds."""

    queue: float = 0.0  # from arrival to the start of its first micro-batch
    compute: float = 0.0  # from then to its last image


_Outcome = tuple[Request, np.ndarray | Exception]


class Batcher:
    """Queue of one model and its threads.

    max_batch: maximum number of images in a micro-batch. max_queue: maximum number of images that wait or are computed.
    A request above it is rejected unless the queue is empty, so that a large request can run eventually. on_batch:
    called with the images and the seconds of each micro-batch, by one thread at a time.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        max_batch: int | None = None,
        max_queue: int = 2048,
        on_batch: Callable[[int, float], None] | None = None,
    ):
        self._runtime = runtime
        self._on_batch = on_batch
        self._max_batch = runtime.max_batch if max_batch is None else max_batch
        self._max_queue = max_queue
        self._changed = Condition()  # guards the attributes below and the requests
        self._seconds_per_image = runtime.seconds_per_image  # of one thread; updated from micro-batches
        self._queue = FairQueue()  # rows that no thread has started
        self._images = 0  # waiting or being computed
        self._reserved = 0  # for requests that are being prepared
        self._idle = 0  # threads that wait for a notification ...
        self._woken = 0  # ... and notified threads that have not resumed yet
        self._computed = 0
        self._closed = False
        self._threads = [
            Thread(target=self._work, name=f"batcher-{runtime.model.id}-{i}", daemon=True)
            for i in range(runtime.concurrency)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def images(self) -> int:
        """Number of images that wait or are being computed."""
        return self._images

    @property
    def computed(self) -> int:
        """Number of images computed since the start. The model works while it grows."""
        return self._computed

    def refusal(self, images: int) -> Overloaded | Closed | None:
        """Return the error that `reserve` would raise for this number of images, or None."""
        if self._closed:
            return Closed("The batcher is closed.")
        before = self._images + self._reserved
        if before and before + images > self._max_queue:
            return Overloaded(before * self._seconds_per_image / len(self._threads))
        return None

    @contextmanager
    def reserve(self, images: int) -> Iterator[None]:
        """Reserve queue space while a request is being prepared. The space is released for `run` when the block ends.

        A request that would be rejected is rejected early. Raises Overloaded or Closed.
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
        self,
        inputs: dict[str, np.ndarray],
        *,
        client: str = "",
        deadline: float = math.inf,
        times: Times | None = None,
        alone: bool = False,
    ) -> np.ndarray:
        """Return the images (N, H, W, C) uint8 of the rows in `inputs` (see Runtime.synthesize).

        client: key of the fair share. deadline: in time.monotonic() seconds. Cancelled and late requests are dropped
        between micro-batches. times: receives the queue and compute time. alone: no other task uses the event loop, so
        work below ALONE_SECONDS runs on it if the model is idle. Raises Overloaded, DeadlineExceeded, Closed, or the
        error of the inference.
        """
        request = Request(inputs, client, deadline)
        n = request.missing
        with self._changed:
            self._check(n)
            short = n <= min(self._max_batch, ALONE_SECONDS / self._seconds_per_image)
            here = alone and short and not self._images and request.arrived < deadline
            self._images += n
            if here:
                request.began = request.arrived
                request.take(n)
            else:
                self._queue.add(request)
                self._wake()
        if here:
            _answer(self._work_off([(request, slice(0, n))]))
        try:
            return await request.future
        except BaseException:
            with self._changed:
                self._images -= self._queue.remove(request)  # cancelled: its remaining rows are not computed
            raise
        finally:
            if times is not None:
                ended = time.monotonic() if request.computed is None else request.computed
                began = ended if request.began is None else request.began
                times.queue, times.compute = began - request.arrived, ended - began

    async def close(self) -> None:
        """Reject new requests, finish the accepted ones, and stop the threads."""
        with self._changed:
            self._closed = True
            self._woken, self._idle = self._woken + self._idle, 0
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _check(self, images: int) -> None:
        error = self.refusal(images)
        if error is not None:
            raise error

    def _wake(self) -> None:
        """Notify as many idle threads as there are images."""
        wanted = min(self._idle, self._queue.images)
        self._idle -= wanted
        self._woken += wanted
        self._changed.notify(wanted)

    def _work(self) -> None:
        while batch := self._next_batch():
            _settle(self._work_off(batch))

    def _work_off(self, batch: Batch) -> list[_Outcome]:
        """Compute a micro-batch. Return the outcomes of the requests that are complete or failed."""
        n = sum(rows.stop - rows.start for _, rows in batch)
        began = time.perf_counter()
        try:
            images = self._compute(batch)
        except Exception as error:  # fails only the requests of this micro-batch
            images = error
        seconds = time.perf_counter() - began
        with self._changed:
            self._images -= n
            self._seconds_per_image += SMOOTHING * (seconds / n - self._seconds_per_image)
            if self._on_batch is not None:
                self._on_batch(n, seconds)
            if isinstance(images, Exception):
                for request, _ in batch:
                    self._images -= self._queue.remove(request)
                return [(request, images) for request, _ in batch]
            self._computed += n
            return self._deliver(batch, images)

    def _compute(self, batch: Batch) -> np.ndarray:
        """Compute consecutive rows of one kind together: a style model takes latents or styles."""
        inputs = [{name: values[rows] for name, values in request.inputs.items()} for request, rows in batch]
        kinds = groupby(map(self._runtime.with_latents, inputs), key=dict.keys)
        parts = [self._runtime.compute(_join(list(alike))) for _, alike in kinds]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _next_batch(self) -> Batch:
        """Wait for requests and return the next micro-batch. Empty after `close` when no rows are left."""
        with self._changed:
            while True:
                while not self._queue.images and not self._closed:
                    self._idle += 1  # until `_wake`
                    self._changed.wait()
                    self._woken -= 1
                self._drop_late()
                if self._queue.images:
                    return self._queue.cut(self._room())
                if self._closed:
                    return []

    def _room(self) -> int:
        """Return the number of images of the next micro-batch."""
        return min(
            self._max_batch,
            max(1, int(MICRO_BATCH_SECONDS / self._seconds_per_image)),
            -(-self._queue.images // (1 + self._woken)),  # leave the same share for each notified thread
        )

    def _drop_late(self) -> None:
        late = self._queue.late()
        if not late:
            return
        for request in late:
            self._images -= self._queue.remove(request)
        error = DeadlineExceeded("The deadline passed before the last image was started.")
        _settle([(request, error) for request in late])

    def _deliver(self, batch: Batch, images: np.ndarray) -> list[_Outcome]:
        """Distribute the images. Return the requests that are complete."""
        position, outcomes, now = 0, [], time.monotonic()
        for request, rows in batch:
            count = rows.stop - rows.start
            if request.put(rows, images[position : position + count]):
                request.computed = now
                outcomes.append((request, request.output))
            position += count
        return outcomes


def _join(inputs: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Concatenate rows of one kind."""
    if len(inputs) == 1:
        return inputs[0]
    return {name: np.concatenate([rows[name] for rows in inputs]) for name in inputs[0]}


def _settle(outcomes: Iterable[_Outcome]) -> None:
    """Set the results of requests from any thread, with one wake-up for each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].loop, []).append(outcome)
    for loop, its in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed, so no task waits
            loop.call_soon_threadsafe(_answer, its)


def _answer(outcomes: Iterable[_Outcome]) -> None:
    for request, outcome in outcomes:
        if request.future.done():  # it was cancelled, or failed in an earlier micro-batch
            continue
        if isinstance(outcome, Exception):
            request.future.set_exception(outcome)
        else:
            request.future.set_result(outcome)

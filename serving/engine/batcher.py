"""Joins the concurrent requests for one model into micro-batches, counted in images.

Each of the model's threads cuts a micro-batch from what waits at the moment it is free, and computes it: nothing waits
for company while a thread is idle, and no thread waits for another. Whose images those are the fair queue says.
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

MICRO_BATCH_SECONDS = 0.01  # about how long a micro-batch takes: what a newcomer, a cancelled or a late request waits
ALONE_SECONDS = 0.001  # of work that is done at once for whoever is alone: two changes of threads take a third of it
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


_Outcome = tuple[Request, np.ndarray | Exception]


class Batcher:
    """The queue of one model, and the threads that work it off.

    max_batch: images in a micro-batch, at most. max_queue: images waiting or under way; a request that would exceed it
    is refused, but not by an empty queue, so that no request is too large for ever. on_batch: told the images and the
    seconds of each micro-batch, by one thread at a time.
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
        self._changed = Condition()  # guards what follows, and the requests
        self._seconds_per_image = runtime.seconds_per_image  # of one thread; then what micro-batches took
        self._queue = FairQueue()  # of what no thread began
        self._images = 0  # waiting or under way
        self._reserved = 0  # for requests that are being prepared
        self._idle = 0  # threads that wait to be woken ...
        self._woken = 0  # ... and that were, and have not come yet
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
        """How many images wait or are under way."""
        return self._images

    @property
    def computed(self) -> int:
        """How many images were computed since the start: as long as it grows, the model works."""
        return self._computed

    def refusal(self, images: int) -> Overloaded | Closed | None:
        """What `reserve` would raise for so many images now."""
        if self._closed:
            return Closed("The batcher is closed.")
        before = self._images + self._reserved
        if before and before + images > self._max_queue:
            return Overloaded(before * self._seconds_per_image / len(self._threads))
        return None

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
        self,
        inputs: dict[str, np.ndarray],
        *,
        client: str = "",
        deadline: float = math.inf,
        times: Times | None = None,
        alone: bool = False,
    ) -> np.ndarray:
        """Rows as Runtime.synthesize takes them -> pictures (N, H, W, C) uint8.

        client: whose fair share it is computed in. deadline: on the clock of time.monotonic(). Cancelled and late
        requests are dropped between micro-batches. times: filled in with where the time went. alone: nobody else uses
        the event loop, so what takes less than ALONE_SECONDS is computed on it, if the model is idle. Raises
        Overloaded, DeadlineExceeded, Closed, or what the inference raised.
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
        """Refuses new requests, finishes those it accepted, and ends the threads."""
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
        """As many threads as there are images for."""
        wanted = min(self._idle, self._queue.images)
        self._idle -= wanted
        self._woken += wanted
        self._changed.notify(wanted)

    def _work(self) -> None:
        while batch := self._next_batch():
            _settle(self._work_off(batch))

    def _work_off(self, batch: Batch) -> list[_Outcome]:
        """Computes a micro-batch -> what its requests are answered with, those that are complete or failed."""
        n = sum(rows.stop - rows.start for _, rows in batch)
        began = time.perf_counter()
        try:
            pictures = self._compute(batch)
        except Exception as error:  # fails the requests of this micro-batch; the thread lives on
            pictures = error
        seconds = time.perf_counter() - began
        with self._changed:
            self._images -= n
            self._seconds_per_image += SMOOTHING * (seconds / n - self._seconds_per_image)
            if self._on_batch is not None:
                self._on_batch(n, seconds)
            if isinstance(pictures, Exception):
                for request, _ in batch:
                    self._images -= self._queue.remove(request)
                return [(request, pictures) for request, _ in batch]
            self._computed += n
            return self._deliver(batch, pictures)

    def _compute(self, batch: Batch) -> np.ndarray:
        """Rows of one kind at a time: a style model's are latents or styles."""
        inputs = [{name: values[rows] for name, values in request.inputs.items()} for request, rows in batch]
        kinds = groupby(map(self._runtime.with_latents, inputs), key=dict.keys)
        parts = [self._runtime.compute(_join(list(alike))) for _, alike in kinds]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _next_batch(self) -> Batch:
        """Waits for requests and cuts the next micro-batch from them; empty once closed and all is begun."""
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
        """Images of the next micro-batch."""
        return min(
            self._max_batch,
            max(1, int(MICRO_BATCH_SECONDS / self._seconds_per_image)),
            -(-self._queue.images // (1 + self._woken)),  # those that come, too, take as much
        )

    def _drop_late(self) -> None:
        late = self._queue.late()
        if not late:
            return
        for request in late:
            self._images -= self._queue.remove(request)
        error = DeadlineExceeded("The deadline passed before the last image was begun.")
        _settle([(request, error) for request in late])

    def _deliver(self, batch: Batch, pictures: np.ndarray) -> list[_Outcome]:
        """The requests that have all their pictures now."""
        position, outcomes, now = 0, [], time.monotonic()
        for request, rows in batch:
            count = rows.stop - rows.start
            if request.put(rows, pictures[position : position + count]):
                request.computed = now
                outcomes.append((request, request.pictures))
            position += count
        return outcomes


def _join(inputs: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Rows of one kind, those of one request after another's."""
    if len(inputs) == 1:
        return inputs[0]
    return {name: np.concatenate([its[name] for its in inputs]) for name in inputs[0]}


def _settle(outcomes: Iterable[_Outcome]) -> None:
    """Answers, from any thread, waking each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].loop, []).append(outcome)
    for loop, its in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits there
            loop.call_soon_threadsafe(_answer, its)


def _answer(outcomes: Iterable[_Outcome]) -> None:
    for request, outcome in outcomes:
        if request.future.done():  # it was cancelled, or failed in an earlier micro-batch
            continue
        if isinstance(outcome, Exception):
            request.future.set_exception(outcome)
        else:
            request.future.set_result(outcome)

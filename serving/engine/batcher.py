"""Joins the concurrent requests for one model into micro-batches, counted in images.

Each of the model's threads cuts a micro-batch from what waits at the moment it is free, and computes it: nothing waits
for company while a thread is idle, and no thread waits for another. Clients have fair shares of a micro-batch, so none
is stuck behind a hundred requests of somebody else's. A client's own requests wait in a line for each size, which have
fair shares of its share: one for a single image is not stuck behind one for 256, and those alike come in their order,
since sharing among them would make them all late.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from threading import Condition, Thread

import numpy as np

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


class _Request:
    """One call of `run`, and how far it is."""

    __slots__ = (
        "arrived",
        "began",
        "client",
        "computed",
        "deadline",
        "future",
        "inputs",
        "loop",
        "missing",
        "pictures",
        "rest",
        "size",
    )

    def __init__(self, inputs: dict[str, np.ndarray], client: str, deadline: float):
        self.inputs = inputs
        self.client = client
        self.deadline = deadline
        self.arrived = time.monotonic()
        self.began: float | None = None
        self.computed: float | None = None
        self.rest = range(len(next(iter(inputs.values()))))  # the rows that no micro-batch took yet
        self.missing = len(self.rest)  # pictures that are not there yet
        self.size = self.missing.bit_length()  # which line of its client's it waits in
        self.pictures: np.ndarray | None = None  # (N, H, W, C), filled in as micro-batches end
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[np.ndarray] = self.loop.create_future()

    def take(self, count: int) -> slice:
        rows, self.rest = self.rest[:count], self.rest[count:]
        return slice(rows.start, rows.stop)

    def put(self, rows: slice, pictures: np.ndarray) -> bool:
        """Keeps the pictures of `rows`; whether they were the last."""
        size = self.missing if self.pictures is None else len(self.pictures)
        if len(pictures) == size:
            self.pictures = pictures
        else:
            if self.pictures is None:
                self.pictures = np.empty((size, *pictures.shape[1:]), pictures.dtype)
            self.pictures[rows] = pictures
        self.missing -= len(pictures)
        return not self.missing


@dataclass(slots=True)
class _Client:
    """Whose requests wait, and for how many images."""

    name: str
    images: int = 0
    lines: dict[int, deque[_Request]] = field(default_factory=dict)  # by size, whichever was served last at the end

    def join(self, request: _Request) -> None:
        self.lines.setdefault(request.size, deque()).append(request)
        self.images += len(request.rest)

    def leave(self, request: _Request) -> None:
        line = self.lines[request.size]
        line.remove(request)
        if not line:
            del self.lines[request.size]
        self.images -= len(request.rest)

    def serve(self, images: int) -> Iterator[tuple[_Request, int]]:
        """How many of the next `images` each request gets, where that is any. Those have to take them."""
        self.images -= images
        lines = {size: self.lines.pop(size) for size in list(islice(self.lines, images))}
        wants = [_at_most(images, line) for line in lines.values()]
        for (size, line), share in zip(lines.items(), fair_shares(wants, images), strict=True):
            while share:
                count = min(share, len(line[0].rest))
                share -= count
                whole = count == len(line[0].rest)
                yield (line.popleft() if whole else line[0]), count
            if line:
                self.lines[size] = line


def _at_most(images: int, line: Iterable[_Request]) -> int:
    """For how many images a line waits, counted up to `images`."""
    total = 0
    for request in line:
        total += len(request.rest)
        if total >= images:
            return images
    return total


_Batch = list[tuple[_Request, slice]]
_Outcome = tuple[_Request, np.ndarray | Exception]


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
        self._seconds_per_image = MICRO_BATCH_SECONDS / self._max_batch  # of one thread, until it is measured
        self._clients: dict[str, _Client] = {}  # whose requests wait, whoever was served last at the end
        self._waiting = 0  # images of those requests
        self._images = 0  # waiting or under way
        self._reserved = 0  # for requests that are being prepared
        self._earliest = math.inf  # no deadline of what waits is before it
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
    def busy(self) -> bool:
        """Whether the queue is more than half full."""
        return 2 * (self._images + self._reserved) > self._max_queue

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
        request = _Request(inputs, client, deadline)
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
                self._queue(request)
                self._earliest = min(self._earliest, deadline)
                self._wake()
        if here:
            _answer(self._work_off([(request, slice(0, n))]))
        try:
            return await request.future
        except BaseException:
            with self._changed:
                self._drop(request)  # cancelled: its remaining rows are not computed
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
        wanted = min(self._idle, self._waiting)
        self._idle -= wanted
        self._woken += wanted
        self._changed.notify(wanted)

    def _queue(self, request: _Request) -> None:
        self._clients.setdefault(request.client, _Client(request.client)).join(request)
        self._waiting += len(request.rest)

    def _work(self) -> None:
        while batch := self._next_batch():
            _settle(self._work_off(batch))

    def _work_off(self, batch: _Batch) -> list[_Outcome]:
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
                    self._drop(request)
                return [(request, pictures) for request, _ in batch]
            self._computed += n
            return self._deliver(batch, pictures)

    def _compute(self, batch: _Batch) -> np.ndarray:
        """Rows of one kind at a time: a style model's are latents or styles."""
        inputs = [{name: values[rows] for name, values in request.inputs.items()} for request, rows in batch]
        kinds = groupby(map(self._runtime.with_latents, inputs), key=dict.keys)
        parts = [self._runtime.compute(_join(list(alike))) for _, alike in kinds]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _next_batch(self) -> _Batch:
        """Waits for requests and cuts the next micro-batch from them; empty once closed and all is begun."""
        with self._changed:
            while True:
                while not self._waiting and not self._closed:
                    self._idle += 1  # until `_wake`
                    self._changed.wait()
                    self._woken -= 1
                if self._earliest <= time.monotonic():
                    self._drop_late()
                if self._waiting:
                    return self._cut()
                if self._closed:
                    return []

    def _cut(self) -> _Batch:
        """A fair share for each client, and in it for each line of its requests. Whoever wants more queues anew."""
        room = min(
            self._max_batch,
            max(1, int(MICRO_BATCH_SECONDS / self._seconds_per_image)),
            -(-self._waiting // (1 + self._woken)),  # those that come, too, take as much
        )
        batch: _Batch = []
        now = time.monotonic()
        clients = [self._clients.pop(name) for name in list(islice(self._clients, room))]
        for client, share in zip(clients, fair_shares([client.images for client in clients], room), strict=True):
            for request, count in client.serve(share):
                if request.began is None:
                    request.began = now
                batch.append((request, request.take(count)))
            self._waiting -= share
            if client.images:
                self._clients[client.name] = client
        return batch

    def _drop_late(self) -> None:
        now = time.monotonic()
        lines = [line for client in self._clients.values() for line in client.lines.values()]
        waiting = [request for line in lines for request in line]
        late = [request for request in waiting if request.deadline <= now]
        self._earliest = min((request.deadline for request in waiting if request.deadline > now), default=math.inf)
        for request in late:
            self._drop(request)
        error = DeadlineExceeded("The deadline passed before the last image was begun.")
        _settle([(request, error) for request in late])

    def _drop(self, request: _Request) -> None:
        """Takes a request out of the queue, with the rows that were not begun."""
        rest = len(request.rest)
        if not rest:
            return
        client = self._clients[request.client]
        client.leave(request)
        request.take(rest)
        if not client.images:
            del self._clients[client.name]
        self._waiting -= rest
        self._images -= rest

    def _deliver(self, batch: _Batch, pictures: np.ndarray) -> list[_Outcome]:
        """The requests that have all their pictures now."""
        position, outcomes, now = 0, [], time.monotonic()
        for request, rows in batch:
            count = rows.stop - rows.start
            if request.put(rows, pictures[position : position + count]):
                request.computed = now
                outcomes.append((request, request.pictures))
            position += count
        return outcomes


def fair_shares(wants: Sequence[int], room: int) -> list[int]:
    """Max-min fair: what one that wants little leaves of its share goes to those that want more.

    wants: at most `room` of them, each at least 1 -> as many shares, each at least 1, of `room` together at most.
    """
    shares = [0] * len(wants)
    for left, i in zip(range(len(wants), 0, -1), sorted(range(len(wants)), key=wants.__getitem__), strict=True):
        shares[i] = min(wants[i], room // left)
        room -= shares[i]
    return shares


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

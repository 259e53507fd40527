"""Fair queue of the requests for one model.

Each client gets a fair share of a micro-batch, so one client cannot block another with many requests. Each client has
one line for each request size, and the lines share the client's share. A request for one image therefore does not wait
for a request for 256 images. Requests in one line are served in order of arrival, because sharing delays them all.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np


class Request:
    """One call of `Batcher.run` and its progress."""

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
        "output",
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
        self.rest = range(len(next(iter(inputs.values()))))  # rows that are not in a micro-batch yet
        self.missing = len(self.rest)  # images that are not computed yet
        self.size = self.missing.bit_length()  # selects the client's line
        self.output: np.ndarray | None = None  # (N, H, W, C), filled as micro-batches end
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[np.ndarray] = self.loop.create_future()

    def take(self, count: int) -> slice:
        rows, self.rest = self.rest[:count], self.rest[count:]
        return slice(rows.start, rows.stop)

    def put(self, rows: slice, images: np.ndarray) -> bool:
        """Store the images of `rows`. Return True if the request is complete."""
        size = self.missing if self.output is None else len(self.output)
        if len(images) == size:
            self.output = images
        else:
            if self.output is None:
                self.output = np.empty((size, *images.shape[1:]), images.dtype)
            self.output[rows] = images
        self.missing -= len(images)
        return not self.missing


Batch = list[tuple[Request, slice]]
"""Requests of one micro-batch, with their rows."""


@dataclass(slots=True)
class _Client:
    """Waiting requests of one client."""

    name: str
    images: int = 0
    lines: dict[int, deque[Request]] = field(default_factory=dict)  # by size; the line served last is at the end

    def join(self, request: Request) -> None:
        self.lines.setdefault(request.size, deque()).append(request)
        self.images += len(request.rest)

    def leave(self, request: Request) -> None:
        line = self.lines[request.size]
        line.remove(request)
        if not line:
            del self.lines[request.size]
        self.images -= len(request.rest)

    def serve(self, images: int) -> Iterator[tuple[Request, int]]:
        """Yield requests with their share of the next `images`. The caller must take these rows."""
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


class FairQueue:
    """Requests with rows that no thread has started. Not thread-safe: the caller must hold a lock."""

    def __init__(self) -> None:
        self.images = 0  # of all waiting requests
        self._clients: dict[str, _Client] = {}  # the client served last is at the end
        self._earliest = math.inf  # lower bound of the waiting deadlines

    def add(self, request: Request) -> None:
        self._clients.setdefault(request.client, _Client(request.client)).join(request)
        self.images += len(request.rest)
        self._earliest = min(self._earliest, request.deadline)

    def remove(self, request: Request) -> int:
        """Remove a request. Return the number of rows that were not started, 0 if it was not in the queue."""
        rest = len(request.rest)
        if rest:
            client = self._clients[request.client]
            client.leave(request)
            request.take(rest)
            if not client.images:
                del self._clients[client.name]
            self.images -= rest
        return rest

    def late(self) -> list[Request]:
        """Return the requests whose deadline has passed. They stay in the queue."""
        now = time.monotonic()
        if now < self._earliest:
            return []
        lines = [line for client in self._clients.values() for line in client.lines.values()]
        waiting = [request for line in lines for request in line]
        self._earliest = min((request.deadline for request in waiting if request.deadline > now), default=math.inf)
        return [request for request in waiting if request.deadline <= now]

    def cut(self, room: int) -> Batch:
        """Take `room` images from the queue: a fair share for each client, then for each of its lines.

        `room` is at most the number of waiting images. A client with more images goes to the end of the queue.
        """
        batch: Batch = []
        now = time.monotonic()
        clients = [self._clients.pop(name) for name in list(islice(self._clients, room))]
        for client, share in zip(clients, fair_shares([client.images for client in clients], room), strict=True):
            for request, count in client.serve(share):
                if request.began is None:
                    request.began = now
                batch.append((request, request.take(count)))
            if client.images:
                self._clients[client.name] = client
        self.images -= room
        return batch


def fair_shares(wants: Sequence[int], room: int) -> list[int]:
    """Return max-min fair shares of `room`: unused parts of small shares go to larger requests.

    `wants` has at most `room` entries, each at least 1. Each share is at least 1; their sum is at most `room`.
    """
    shares = [0] * len(wants)
    for left, i in zip(range(len(wants), 0, -1), sorted(range(len(wants)), key=wants.__getitem__), strict=True):
        shares[i] = min(wants[i], room // left)
        room -= shares[i]
    return shares


def _at_most(images: int, line: Iterable[Request]) -> int:
    """Return the number of images waiting in a line, at most `images`."""
    total = 0
    for request in line:
        total += len(request.rest)
        if total >= images:
            return images
    return total

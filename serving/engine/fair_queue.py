"""What waits for a model, and who is served next.

Clients have fair shares of a micro-batch, so none is stuck behind a hundred requests of somebody else's. A client's own
requests wait in a line for each size, which have fair shares of its share: one for a single image is not stuck behind
one for 256, and those alike come in their order, since sharing among them would make them all late.
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


Batch = list[tuple[Request, slice]]
"""The rows of each request that are computed together."""


@dataclass(slots=True)
class _Client:
    """Whose requests wait, and for how many images."""

    name: str
    images: int = 0
    lines: dict[int, deque[Request]] = field(default_factory=dict)  # by size, whichever was served last at the end

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


class FairQueue:
    """Requests with rows that nobody began. It has no lock: whoever shares it has one."""

    def __init__(self) -> None:
        self.images = 0  # of all requests here
        self._clients: dict[str, _Client] = {}  # whoever was served last at the end
        self._earliest = math.inf  # no deadline of what waits is before it

    def add(self, request: Request) -> None:
        self._clients.setdefault(request.client, _Client(request.client)).join(request)
        self.images += len(request.rest)
        self._earliest = min(self._earliest, request.deadline)

    def remove(self, request: Request) -> int:
        """How many rows of it nobody began, and nobody will; 0 where it is not here."""
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
        """Those whose deadline has passed. They are still here."""
        now = time.monotonic()
        if now < self._earliest:
            return []
        lines = [line for client in self._clients.values() for line in client.lines.values()]
        waiting = [request for line in lines for request in line]
        self._earliest = min((request.deadline for request in waiting if request.deadline > now), default=math.inf)
        return [request for request in waiting if request.deadline <= now]

    def cut(self, room: int) -> Batch:
        """`room` images, at most as many as wait: a fair share for each client, and in it for each of its lines.

        Whoever wants more queues anew.
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
    """Max-min fair: what one that wants little leaves of its share goes to those that want more.

    wants: at most `room` of them, each at least 1 -> as many shares, each at least 1, of `room` together at most.
    """
    shares = [0] * len(wants)
    for left, i in zip(range(len(wants), 0, -1), sorted(range(len(wants)), key=wants.__getitem__), strict=True):
        shares[i] = min(wants[i], room // left)
        room -= shares[i]
    return shares


def _at_most(images: int, line: Iterable[Request]) -> int:
    """For how many images a line waits, counted up to `images`."""
    total = 0
    for request in line:
        total += len(request.rest)
        if total >= images:
            return images
    return total

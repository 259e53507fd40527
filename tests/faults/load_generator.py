"""A cheap client in a process of its own: as many requests as it is told, and what came of them as JSON.

    python tests/faults/load_generator.py --port 3000 --seconds 10 --clients 16     closed loop: each awaits its reply
    python tests/faults/load_generator.py --port 3000 --seconds 10 --rate 500       open loop: they come anyway

In an open loop requests come at random (Poisson), however long replies take, and a reply's time is counted from when
its request should have been sent. They go over connections that are kept, as many as it takes; every `--fresh`-th over
one of its own. A request whose connection breaks before its reply is sent again, `--retries` times, after 0.1 s, 0.2 s
and so on. SIGTERM ends the sending; replies are still awaited.
"""

import argparse
import asyncio
import json
import random
import resource
import signal
import time
from collections import Counter
from typing import cast

import uvloop

FIRST_RETRY_SECONDS = 0.1
PATIENCE_SECONDS = 40  # for replies, after the last request


class Request:
    """One request, and what came of it."""

    __slots__ = ("attempts", "due")

    def __init__(self, due: float):
        self.due = due
        self.attempts = 0


class Connection(asyncio.Protocol):
    """One request at a time. Reads of a reply what the campaign counts: status, length, two headers."""

    def __init__(self, client: "Client"):
        self.client = client
        self.transport: asyncio.Transport | None = None
        self.request: Request | None = None
        self.received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, request: Request, payload: bytes) -> None:
        assert self.transport is not None
        self.request = request
        self.transport.write(payload)

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.received[:end]).lower()
        if len(self.received) < end + 4 + int(_field(head, b"content-length") or 0):
            return
        self.received.clear()
        request, self.request = self.request, None
        if request is None:
            return  # the server had something to say of its own accord, such as 408: it closes
        if _field(head, b"connection") == b"close":
            assert self.transport is not None
            self.transport.close()
        else:
            self.client.idle.append(self)
        self.client.answered(request, int(head[9:12]), _field(head, b"retry-after"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.request is not None:
            self.client.broken(self.request)
        elif self in self.client.idle:
            self.client.idle.remove(self)


def _field(head: bytes, name: bytes) -> bytes | None:
    _, found, rest = head.partition(b"\r\n" + name + b": ")
    return rest.partition(b"\r\n")[0] if found else None


class Client:
    """Sends the requests of a campaign and keeps the tally."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        body = json.dumps({"model": options.model, "n": options.images, "seed": 7}).encode()
        head = (
            f"POST /v1/sample HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Accept: application/x-npy\r\nContent-Length: {len(body)}\r\n"
        )
        self.kept = f"{head}\r\n".encode() + body
        self.own = f"{head}Connection: close\r\n\r\n".encode() + body
        self.idle: list[Connection] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.loop = asyncio.get_running_loop()
        self.sent = self.pending = self.breaks = self.lost = 0
        self.late = 0.0  # seconds by which this client itself was behind, at worst
        self.replies: list[tuple[float, float, int]] = []  # when, seconds, status
        self.retry_after: Counter[str] = Counter()  # what refusals say, in seconds
        self.ends = 0.0

    async def run(self) -> dict:
        began = time.monotonic()
        self.ends = began + self.options.seconds
        self.loop.add_signal_handler(signal.SIGTERM, self.stop)
        if self.options.rate is None:
            for _ in range(self.options.clients):
                self.begin(Request(time.monotonic()))
            while time.monotonic() < self.ends:
                await asyncio.sleep(0.02)
        else:
            await self.arrive(began)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self.pending:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self.lost += self.pending
        return self.report(began)

    def stop(self) -> None:
        self.ends = min(self.ends, time.monotonic())

    async def arrive(self, began: float) -> None:
        rng = random.Random(7)
        due = began
        while due < self.ends:
            due += rng.expovariate(self.options.rate)
            ahead = due - time.monotonic()
            if ahead > 0.001:
                await asyncio.sleep(ahead)
            elif self.sent % 64 == 0:
                await asyncio.sleep(0)  # behind: replies have their turn all the same
            self.late = max(self.late, time.monotonic() - due)
            self.begin(Request(due))

    def begin(self, request: Request) -> None:
        self.sent += 1
        self.pending += 1
        self.dispatch(request)

    def dispatch(self, request: Request) -> None:
        request.attempts += 1
        if self.options.fresh and self.sent % self.options.fresh == 0:
            return self.spawn(request, self.own)
        while self.idle:
            connection = self.idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection.send(request, self.kept)
        return self.spawn(request, self.kept)

    def spawn(self, request: Request, payload: bytes) -> None:
        task = self.loop.create_task(self.connect(request, payload))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def connect(self, request: Request, payload: bytes) -> None:
        try:
            _, connection = await self.loop.create_connection(lambda: Connection(self), "127.0.0.1", self.options.port)
        except OSError:
            return self.broken(request)
        return connection.send(request, payload)

    def answered(self, request: Request, status: int, retry_after: bytes | None) -> None:
        now = time.monotonic()
        self.pending -= 1
        self.replies.append((now, now - request.due, status))
        if status == 503:
            self.retry_after[(retry_after or b"missing").decode()] += 1
        if self.options.rate is None and now < self.ends:
            self.begin(Request(now))

    def broken(self, request: Request) -> None:
        self.breaks += 1
        if request.attempts <= self.options.retries:
            self.loop.call_later(FIRST_RETRY_SECONDS * 2 ** (request.attempts - 1), self.dispatch, request)
        else:
            self.pending -= 1
            self.lost += 1

    def report(self, began: float) -> dict:
        """Requests a second are those of all replies. Images are those of replies in time, but for its first fifth."""
        warm = began + (self.ends - began) / 5
        served = sum(status == 200 and warm <= when < self.ends for when, _, status in self.replies)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        times = {kind: sorted(s for _, s, status in self.replies if status == kind) for kind in (200, 503)}
        return {
            "sent": self.sent,
            "statuses": dict(Counter(status for _, _, status in self.replies)),
            "broken": self.breaks,
            "lost": self.lost,
            "requests_per_second": len(self.replies) / (max(self.replies)[0] - began) if self.replies else 0,
            "images_per_second": served * self.options.images / (self.ends - warm),
            "accepted_ms": _percentiles(times[200]),
            "refused_ms": _percentiles(times[503]),
            "retry_after": dict(self.retry_after),
            "client_cpu": (usage.ru_utime + usage.ru_stime) / (time.monotonic() - began),  # of one processor
            "client_late_ms": 1000 * self.late,
        }


def _percentiles(seconds: list[float]) -> dict[str, float]:
    def at(share: float) -> float:
        return round(1000 * seconds[min(len(seconds) - 1, int(share * len(seconds)))], 1)

    return {name: at(share) for name, share in {"p50": 0.5, "p99": 0.99, "max": 1.0}.items()} if seconds else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rate", type=float, help="requests a second, in an open loop")
    parser.add_argument("--clients", type=int, default=16, help="in a closed loop")
    parser.add_argument("--model", default="tiny-dcgan")
    parser.add_argument("--images", type=int, default=16, help="in a request")
    parser.add_argument("--fresh", type=int, default=0, help="one in so many requests has a connection of its own")
    parser.add_argument("--retries", type=int, default=0)
    options = parser.parse_args()

    async def run() -> dict:
        return await Client(options).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run())))


if __name__ == "__main__":
    main()

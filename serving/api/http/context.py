"""One request and its reply: what is known of it while it is under way, and told of it when it is over."""

import asyncio
import random
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from starlette.types import Message, Receive, Scope

from serving.api.http.problems import Problem, gone, late, slow_request, wrong_timeout
from serving.engine.batcher import Times

SCOPE_KEY = "ganymede.exchange"
UNDER_WAY_KEY = "ganymede.under_way"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")  # what is echoed goes into logs: nothing that could end a line
PATIENCE = 0.05  # seconds before it is looked whether the client still waits; most replies have gone by then
SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def new_request_id() -> str:
    """Unlike uuid4, it asks the kernel for nothing: that lets go of the interpreter, which models want under load."""
    return f"{random.getrandbits(128):032x}"


@dataclass(slots=True)
class Exchange:
    method: str
    path: str
    request_id: str
    client: str  # the name of its API key, or its network address
    receive: Receive  # the rest of what it sends: nothing but its leaving, once the body was read
    arrived: float = field(default_factory=time.monotonic)
    deadline: float = float("inf")  # on the clock of time.monotonic()
    problem: Problem | None = None  # what it is answered with, where that is no success
    status: int = 0  # of the reply, once it begins
    images: int = 0  # that it asked for
    admitted: bool = False  # and counted as under way, until its reply begins
    times: Times = field(default_factory=Times)
    under_way: Collection[object] = ()  # the process's requests, this one too; if the one before was the same client's
    encode: float | None = None  # seconds; None where it was packed while it was sent

    @classmethod
    def of(cls, scope: Scope, headers: Mapping[str, str], receive: Receive) -> "Exchange":
        """A new one, kept in `scope`."""
        sent = headers.get("x-request-id", "")
        request_id = sent if REQUEST_ID.fullmatch(sent) else new_request_id()
        client = scope.get("client")
        exchange = cls(scope["method"], scope["path"], request_id, client[0] if client else "unknown", receive)
        exchange.under_way = scope.get(UNDER_WAY_KEY, ())
        scope[SCOPE_KEY] = exchange
        return exchange

    @classmethod
    def within(cls, path: str, seconds: float) -> "Exchange":
        """A call from this very process."""

        async def stays() -> Message:
            return await asyncio.Future()

        exchange = cls("POST", path, new_request_id(), "local", stays)
        exchange.limit(None, seconds)
        return exchange

    def limit(self, asked: str | None, most: float) -> None:
        """Sets the deadline: what `X-Request-Timeout` asked for, at most `most` seconds. Raises Problem 422."""
        seconds = most
        if asked is not None:
            if not SECONDS.fullmatch(asked) or not float(asked):
                raise wrong_timeout(asked)
            seconds = min(most, float(asked))
        self.deadline = self.arrived + seconds

    @property
    def alone(self) -> bool:
        """Whether a client has this process to itself: no other request is under way, and the last one was its own."""
        return len(self.under_way) == 1

    def in_time(self, read_timeout: float | None = None) -> "InTime":
        return InTime(self, read_timeout)

    @property
    def server_timing(self) -> str:
        """The header of that name, in milliseconds."""
        drawn = f"queue;dur={1000 * self.times.queue:.2f}, compute;dur={1000 * self.times.compute:.2f}"
        return drawn if self.encode is None else f"{drawn}, encode;dur={1000 * self.encode:.2f}"


class InTime:
    """What is awaited within is cancelled at the deadline, and when the client leaves. Raises Problem 504 or 400.

    With a `read_timeout`, in seconds, the request must first have come whole within it, or Problem 408: say `received`.
    Most replies have gone before PATIENCE has passed, and until then it is one timer that does nothing.
    """

    __slots__ = (
        "_cancelled",
        "_cancelling",
        "_exchange",
        "_left",
        "_looks",
        "_loop",
        "_read_timeout",
        "_task",
        "_timer",
        "_watching",
    )

    def __init__(self, exchange: Exchange, read_timeout: float | None):
        self._exchange = exchange
        self._read_timeout = read_timeout
        self._looks = False  # after the client and the clock
        self._left = False
        self._cancelled = False
        self._watching: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        first = self._exchange.deadline - time.monotonic()
        if self._read_timeout is not None:
            first = min(first, self._read_timeout)
        self._timer = self._loop.call_later(max(0, min(PATIENCE, first)), self._look)
        return self

    def received(self) -> None:
        """The request has come whole."""
        self._read_timeout = None
        if self._looks:
            self._timer.cancel()
            self._look()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
        # As asyncio.Timeout does it: whoever else cancels the task, too, is heard.
        if self._cancelled and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._problem() from None

    def _look(self) -> None:
        self._looks = True
        exchange = self._exchange
        if self._read_timeout is None:
            ends = exchange.deadline
            self._watching = self._loop.create_task(self._until_it_leaves())
        else:
            ends = exchange.arrived + self._read_timeout
        self._timer = self._loop.call_later(max(0, ends - time.monotonic()), self._cancel)

    async def _until_it_leaves(self) -> None:
        while (await self._exchange.receive())["type"] != "http.disconnect":
            pass
        self._left = True
        self._cancel()

    def _cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def _problem(self) -> Problem:
        if self._read_timeout is not None:
            return slow_request(self._read_timeout)
        return gone() if self._left else late(self._exchange.deadline - self._exchange.arrived)

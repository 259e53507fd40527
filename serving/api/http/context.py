"""The context of a request: what is known of it from its first line to the end of its reply."""

import asyncio
import random
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from starlette.types import Message, Receive, Scope

from serving.api.http.problems import Problem, client_closed, deadline_exceeded, slow_request, wrong_timeout
from serving.engine.batcher import Times

SCOPE_KEY = "ganymede.context"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")  # an echoed id goes into logs: it must not end a line
GRACE_SECONDS = 0.05  # most replies have been sent by then, so a closed connection is watched for only after it
SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


@dataclass(slots=True, eq=False)
class RequestContext:
    method: str
    path: str
    request_id: str
    client: str  # name of the API key, or network address
    headers: Mapping[str, str]  # by name in lower case; several of a name are joined by commas (RFC 9110, 5.3)
    receive: Receive  # of the server; after the body it yields nothing but the disconnect
    arrived: float = field(default_factory=time.monotonic)
    deadline: float = float("inf")  # on the clock of time.monotonic()
    problem: Problem | None = None  # that the request was answered with
    status: int = 0  # of the reply, once it begins
    images: int = 0  # requested
    times: Times = field(default_factory=Times)  # in the queue and computing
    encode_seconds: float | None = None  # None: encoded while it was sent
    in_flight: Collection["RequestContext"] = ()  # of this process, if the previous request had the same connection

    @classmethod
    def of(cls, scope: Scope, receive: Receive) -> "RequestContext":
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        sent, client = headers.get("x-request-id", ""), scope.get("client")
        request_id = sent if REQUEST_ID.fullmatch(sent) else new_request_id()
        return cls(scope["method"], scope["path"], request_id, client[0] if client else "", headers, receive)

    @classmethod
    def internal(cls, path: str, seconds: float) -> "RequestContext":
        """Return the context of a call from within this process, which never disconnects."""

        async def receive() -> Message:
            return await asyncio.Future()

        context = cls("POST", path, new_request_id(), "local", {}, receive)
        context.set_deadline(seconds)
        return context

    @property
    def alone(self) -> bool:
        """True where one client has the process to itself: no other request is in flight, nor came in between."""
        return len(self.in_flight) == 1

    @property
    def server_timing(self) -> str:
        """The `Server-Timing` header, in milliseconds."""
        text = f"queue;dur={1000 * self.times.queue:.2f}, compute;dur={1000 * self.times.compute:.2f}"
        return text if self.encode_seconds is None else f"{text}, encode;dur={1000 * self.encode_seconds:.2f}"

    def set_deadline(self, limit: float) -> None:
        """Set the deadline to `X-Request-Timeout` where it was sent, at most `limit` seconds. Raises Problem 422."""
        seconds, requested = limit, self.headers.get("x-request-timeout")
        if requested is not None:
            if not SECONDS.fullmatch(requested) or not float(requested):
                raise wrong_timeout(requested)
            seconds = min(limit, float(requested))
        self.deadline = self.arrived + seconds

    def until_deadline(self, read_timeout: float | None = None) -> "UntilDeadline":
        return UntilDeadline(self, read_timeout)


class UntilDeadline:
    """Context manager that cancels its body at the deadline (Problem 504), or when the client disconnects (400).

    With a `read_timeout`, in seconds, the request's body must arrive first (Problem 408): call `body_received` then.
    Until GRACE_SECONDS have passed it is one timer; each `asyncio.timeout` would take 4 us of a request.
    """

    __slots__ = (
        "_cancelling",
        "_context",
        "_loop",
        "_problem",
        "_read_timeout",
        "_task",
        "_timer",
        "_watcher",
        "_watching",
    )

    def __init__(self, context: RequestContext, read_timeout: float | None):
        self._context = context
        self._read_timeout = read_timeout
        self._watching = False
        self._problem: Problem | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        left = self._context.deadline - time.monotonic()
        self._timer = self._loop.call_later(max(0.0, min(GRACE_SECONDS, left)), self._watch)
        return self

    def body_received(self) -> None:
        self._read_timeout = None
        if self._watching:
            self._timer.cancel()
            self._watch()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        # As asyncio.Timeout does it: a cancellation from elsewhere is passed on.
        if self._problem and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._problem from None

    def _watch(self) -> None:
        self._watching = True
        context = self._context
        if self._read_timeout is None:
            ends, problem = context.deadline, deadline_exceeded(context.deadline - context.arrived)
            self._watcher = self._loop.create_task(self._wait_for_disconnect())
        else:
            ends, problem = context.arrived + self._read_timeout, slow_request(self._read_timeout)
        self._timer = self._loop.call_later(max(0.0, ends - time.monotonic()), self._cancel, problem)

    async def _wait_for_disconnect(self) -> None:
        while (await self._context.receive())["type"] != "http.disconnect":
            pass
        self._cancel(client_closed())

    def _cancel(self, problem: Problem) -> None:
        if self._problem is None:
            self._problem = problem
            self._task.cancel()


def new_request_id() -> str:
    """Return 128 random bits. Unlike uuid4 it makes no system call, which would release the interpreter's lock."""
    return f"{random.getrandbits(128):032x}"

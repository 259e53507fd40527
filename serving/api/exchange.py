"""One request and its reply: what is known of it while it is under way, and told of it when it is over."""

import random
import re
import time
from asyncio import timeout
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.types import Scope

from serving.api.problems import Problem, late, wrong_timeout
from serving.engine.batcher import Times

SCOPE_KEY = "ganymede.exchange"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")  # what is echoed goes into logs: nothing that could end a line
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
    arrived: float = field(default_factory=time.monotonic)
    deadline: float = float("inf")  # on the clock of time.monotonic()
    body: BaseModel | None = None  # of a POST, parsed
    problem: Problem | None = None  # what it is answered with, where that is no success
    status: int = 0  # of the reply, once it begins
    images: int = 0  # that it asked for
    admitted: bool = False  # and counted as under way, until its reply begins
    times: Times = field(default_factory=Times)
    encode: float = 0.0  # seconds

    @classmethod
    def of(cls, scope: Scope, headers: Headers) -> "Exchange":
        """A new one, kept in `scope`."""
        sent = headers.get("x-request-id", "")
        request_id = sent if REQUEST_ID.fullmatch(sent) else new_request_id()
        client = scope.get("client")
        exchange = cls(scope["method"], scope["path"], request_id, client[0] if client else "unknown")
        scope[SCOPE_KEY] = exchange
        return exchange

    def limit(self, asked: str | None, most: float) -> None:
        """Sets the deadline: what `X-Request-Timeout` asked for, at most `most` seconds. Raises Problem 422."""
        seconds = most
        if asked is not None:
            if not SECONDS.fullmatch(asked) or not float(asked):
                raise wrong_timeout(asked)
            seconds = min(most, float(asked))
        self.deadline = self.arrived + seconds

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """What is awaited within is cancelled at the deadline. Raises Problem 504."""
        try:
            async with timeout(self.deadline - time.monotonic()):
                yield
        except TimeoutError:
            raise late(self.deadline - self.arrived) from None

    @property
    def server_timing(self) -> str:
        """The header of that name, in milliseconds."""
        times = {"queue": self.times.queue, "compute": self.times.compute, "encode": self.encode}
        return ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in times.items())

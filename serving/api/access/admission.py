"""Admission control: how many requests a process works on at once. More would not finish sooner, and each would wait.

Without it, accepted requests wait on the event loop under overload, where each slows all others: replies come too late,
and rejections with them. A model's queue has its own limit, in images (`serving.engine.batcher`).
"""

import re
import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.http.problems import Problem, overloaded, retry_after

MAX_REQUESTS = 256  # at 500 requests/s, the lowest rate measured, each is answered within about 0.5 s
SMOOTHING = 0.05  # weight of the newest reply in the measured rate


class AdmissionMiddleware:
    """Rejects a request for images with 503 while MAX_REQUESTS others are in work.

    A request is in work from the end of its body to the start of its reply: a slow sender or a slow reader holds no
    place that another could use.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        posts: Collection[str],
        gets: str,
        limit: int = MAX_REQUESTS,
        infer: re.Pattern[str] | None = None,
    ):
        self.app = app
        self._posts = posts  # paths
        self._gets = gets  # prefix of paths
        self._infer = infer  # paths of POSTs, too
        self._limit = limit
        self._requests = 0
        self._last_left = 0.0  # time at which a request last left others in work
        self._seconds_per_request = 0.002  # until it is measured

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        complete = path.startswith(self._gets)  # a GET has no body
        post = path in self._posts or (self._infer is not None and self._infer.fullmatch(path))
        if scope["type"] != "http" or not (complete or post):
            return await self.app(scope, receive, send)
        in_work = False

        async def watched_receive() -> Message:
            nonlocal in_work
            message = await receive()
            if not in_work and message["type"] == "http.request" and not message.get("more_body", False):
                self._enter()
                in_work = True
            return message

        async def watched_send(message: Message) -> None:
            nonlocal in_work
            if in_work:
                in_work = False
                self._leave()
            await send(message)

        if complete:
            self._enter()
            in_work = True
        try:
            await self.app(scope, receive if complete else watched_receive, watched_send)
        finally:
            if in_work:
                self._leave()
        return None

    def _enter(self) -> None:
        if self._requests >= self._limit:
            raise self._rejection()
        if not self._requests:
            self._last_left = time.monotonic()
        self._requests += 1

    def _leave(self) -> None:
        now = time.monotonic()
        self._requests -= 1
        self._seconds_per_request += SMOOTHING * (now - self._last_left - self._seconds_per_request)
        self._last_left = now

    def _rejection(self) -> Problem:
        return overloaded(retry_after(self._requests * self._seconds_per_request))

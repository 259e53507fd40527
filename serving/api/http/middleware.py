"""The two layers that every request passes: one gives it a context and reports it, one answers with its error."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.http.context import SCOPE_KEY, RequestContext
from serving.api.http.problems import MEDIA_TYPE, Problem, of_status

DISCARD_BYTES = 16 * 2**20  # of a body that the reply does not depend on
DISCARD_SECONDS = 1.0  # most bodies come with their head

logger = logging.getLogger("ganymede")

Observer = Callable[[RequestContext, str, float], None]
"""Told of a request when its reply ends: the context, the route's template, and the seconds since it arrived."""


class ContextMiddleware:
    """Gives each request its context, each reply the headers that all replies have, and tells `observers` of both.

    A reply waits for the end of the request's body, whether the application has read it or not: HTTP servers close a
    connection with unread data, and a client that is still sending, or sends the next request, may lose the reply.

    A request is reported just before the last byte of its reply is sent, so that a client that has the whole reply
    finds it in /metrics.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        observers: Sequence[Observer],
        count: Callable[[int], None],  # told +1 and -1 as requests come and go
        draining: Callable[[], bool],
    ):
        self.app = app
        self._observers = observers
        self._count = count
        self._draining = draining
        self._in_flight: set[RequestContext] = set()
        self._last_client: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        context = scope[SCOPE_KEY] = RequestContext.of(scope, receive)
        if scope.get("client") == self._last_client:
            context.in_flight = self._in_flight
        self._last_client = scope.get("client")
        reported, received = False, not _has_body(context.headers)

        async def observed_receive() -> Message:
            nonlocal received
            message = await receive()
            received = not message.get("more_body", False)
            return message

        def report() -> None:
            nonlocal reported
            if not reported:
                reported = True
                route, seconds = route_template(scope), time.monotonic() - context.arrived
                for observer in self._observers:
                    observer(context, route, seconds)

        async def observed_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                fields = MutableHeaders(raw=message.setdefault("headers", []))
                fields.raw.append((b"x-request-id", context.request_id.encode()))
                fields.raw.append((b"x-content-type-options", b"nosniff"))
                if self._draining():
                    fields["Connection"] = "close"  # the next request reaches a server that stays
                if not received and context.status != 408 and "expect" not in context.headers:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(DISCARD_SECONDS):
                            await _discard(observed_receive)
                if not received:
                    fields["Connection"] = "close"
            elif not message.get("more_body", False):
                report()
            await send(message)

        self._in_flight.add(context)
        self._count(1)
        try:
            await self.app(scope, observed_receive, observed_send)
        finally:
            report()
            self._in_flight.discard(context)
            self._count(-1)
        return None


class ProblemMiddleware:
    """Turns each exception into a problem document, and logs those that are faults of the server.

    Once a reply has begun it cannot become an error: it ends early, and the server closes the connection.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        context, started = scope[SCOPE_KEY], False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            return await self.app(scope, receive, watched_send)
        except Problem as error:
            problem = error
        except HTTPException as error:
            problem = of_status(error.status_code, context.path, context.method, error.headers)
        except Exception:
            extra = {"fields": {"request_id": context.request_id}}
            logger.exception("%s %s failed", context.method, context.path, extra=extra)
            problem = of_status(500, context.path, context.method)
        # Without references to frames that hold it: such a cycle keeps the connection open until it is collected.
        context.problem, problem.__context__ = problem.with_traceback(None), None
        if started:
            return None
        body = problem.document(instance=context.path, request_id=context.request_id)
        await Response(body, problem.status, problem.headers, MEDIA_TYPE)(scope, receive, send)
        return None


def _has_body(headers: Mapping[str, str]) -> bool:
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


async def _discard(receive: Receive) -> None:
    """Read the rest of a body, of at most DISCARD_BYTES."""
    size, more = 0, True
    while more and size < DISCARD_BYTES:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)


def route_template(scope: Scope) -> str:
    """Return the path template of the route that a request is for, or "unknown". A rejected one met no router."""
    route = scope.get("route")
    if route is None:
        routes = scope["app"].routes if "app" in scope else ()
        route = next((route for route in routes if route.matches(scope)[0] != Match.NONE), None)
    return getattr(route, "path", "unknown")

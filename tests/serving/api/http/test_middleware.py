"""The layers around the routes: what they leave behind, and the bodies that no route reads."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from serving.api.http.middleware import ContextMiddleware, ProblemMiddleware
from serving.api.http.problems import Problem


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def rejects(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        raise TimeoutError
    except TimeoutError:
        raise Problem(408, "slow-request", "The request did not arrive.") from None


async def breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise Problem(504, "deadline-exceeded", "It took too long.")


class Body:
    """The `receive` of a server."""

    def __init__(self, *parts: bytes):
        self.parts = list(parts)

    async def __call__(self) -> Message:
        if not self.parts:
            return await asyncio.Future()
        return {"type": "http.request", "body": self.parts.pop(0), "more_body": bool(self.parts)}


async def call(app: Any, receive: Body, *headers: tuple[bytes, bytes]) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    layers = ContextMiddleware(ProblemMiddleware(app), observers=[], count=lambda change: None, draining=lambda: False)
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "client": ("127.0.0.1", 1)}
    await layers(scope, receive, send)
    return sent


@pytest.mark.parametrize("app", [rejects, breaks_off])
def test_a_failed_request_is_freed_without_the_collector(app: Any, no_collector: None):
    """Servers close a connection once the request is freed; the collector may come much later."""

    async def run() -> weakref.ref[Body]:
        body = Body(b"")
        try:
            await call(app, body)
        except Problem:
            assert app is breaks_off
        return weakref.ref(body)

    assert asyncio.run(run())() is None


def test_a_reply_waits_for_the_rest_of_the_body():
    body = Body(b"x" * 100, b"x" * 100, b"")
    start, _ = asyncio.run(call(rejects_early, body, (b"content-length", b"200")))
    assert body.parts == [] and b"connection" not in dict(start["headers"])


async def rejects_early(scope: Scope, receive: Receive, send: Send) -> None:
    raise Problem(415, "unsupported-media-type", "It is no JSON.")


def test_a_body_that_stops_closes_the_connection(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("serving.api.http.middleware.DISCARD_SECONDS", 0.01)
    start, _ = asyncio.run(call(rejects_early, Endless(b"x"), (b"content-length", b"200")))
    assert dict(start["headers"])[b"connection"] == b"close"


class Endless(Body):
    async def __call__(self) -> Message:
        if not self.parts:
            return await asyncio.Future()
        return {"type": "http.request", "body": self.parts.pop(0), "more_body": True}

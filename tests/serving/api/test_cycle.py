"""Replies on the wire: what an application sends, and what a client reads."""

import asyncio
import http.client
import io
import logging
from typing import Any, cast

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from serving.api.cycle import Cycle

Fields = dict[bytes, bytes]


class Transport:
    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True


class Wire(io.BytesIO):
    """What http.client takes for a socket."""

    def makefile(self, mode: str) -> io.BytesIO:
        return self


def cycle(transport: Transport, method: str = "GET", keep_alive: bool = True, version: str = "1.1") -> Cycle:
    return Cycle(
        scope=cast(Any, {"type": "http", "method": method, "http_version": version}),
        transport=cast(asyncio.Transport, transport),
        flow=FlowControl(cast(asyncio.Transport, transport)),
        logger=logging.getLogger(),
        access_logger=logging.getLogger(),
        access_log=False,
        default_headers=[(b"date", b"Thu, 26 Nov 2026 12:00:00 GMT")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )


def reply(
    status: int,
    fields: Fields,
    *bodies: bytes,
    method: str = "GET",
    keep_alive: bool = True,
    version: str = "1.1",
) -> Transport:
    """What is written where `bodies` are sent one after another."""
    transport = Transport()

    async def send() -> None:
        its = cycle(transport, method, keep_alive, version)
        await its.send({"type": "http.response.start", "status": status, "headers": list(fields.items())})
        assert not transport.writes, "the head waits for the body"
        for i, body in enumerate(bodies):
            assert not its.response_complete
            await its.send({"type": "http.response.body", "body": body, "more_body": i + 1 < len(bodies)})
        assert its.response_complete

    asyncio.run(send())
    return transport


def read(transport: Transport, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    """As a client has it, which finds nothing after it."""
    wire = Wire(b"".join(transport.writes))
    response = http.client.HTTPResponse(cast(Any, wire), method=method)
    response.begin()
    wire.close = lambda: None  # type: ignore[method-assign]  the client closes what it has read
    body = response.read()
    assert wire.read() == b""
    return response, body


def test_a_small_reply_is_one_write():
    transport = reply(200, {b"content-length": b"3", b"content-type": b"image/png"}, b"png")
    assert len(transport.writes) == 1 and not transport.closed
    response, body = read(transport)
    assert (response.status, response.reason, body) == (200, "OK", b"png")
    assert dict(response.getheaders()) == {
        "date": "Thu, 26 Nov 2026 12:00:00 GMT",
        "content-length": "3",
        "content-type": "image/png",
    }


def test_a_reply_of_known_length_may_come_in_pieces():
    transport = reply(200, {b"content-length": b"6"}, b"abc", b"def")
    assert len(transport.writes) == 2 and read(transport)[1] == b"abcdef"


def test_one_of_unknown_length_comes_in_chunks():
    transport = reply(200, {}, b"abc", b"", b"x" * 70_000, b"")
    response, body = read(transport)
    assert response.getheader("transfer-encoding") == "chunked" and body == b"abc" + b"x" * 70_000


def test_to_whoever_knows_no_chunks_it_ends_with_the_connection():
    transport = reply(200, {}, b"abc", b"", b"x" * 70_000, b"", keep_alive=False, version="1.0")
    response, body = read(transport)
    assert response.getheader("transfer-encoding") is None and body == b"abc" + b"x" * 70_000
    assert transport.closed and response.getheader("connection") == "close"


@pytest.mark.parametrize("fields", [{b"content-length": b"3"}, {}])
def test_a_head_request_gets_the_head_alone(fields: Fields):
    transport = reply(200, fields, b"png", method="HEAD")
    assert transport.writes[0].endswith(b"\r\n\r\n") and b"transfer-encoding" not in transport.writes[0]
    assert read(transport, "HEAD")[1] == b""


@pytest.mark.parametrize("status", [204, 304])
def test_some_replies_have_no_body(status: int):
    transport = reply(status, {b"etag": b'"7"'}, b"")
    assert b"transfer-encoding" not in transport.writes[0]
    assert read(transport)[1] == b""


@pytest.mark.parametrize(("fields", "keep_alive"), [({b"connection": b"Close"}, True), ({}, False)])
def test_a_connection_that_is_not_kept_is_said_to_be_closed_once_and_is(fields: Fields, keep_alive: bool):
    transport = reply(200, {b"content-length": b"3", **fields}, b"png", keep_alive=keep_alive)
    assert transport.closed
    response, _ = read(transport)
    assert [value.lower() for name, value in response.getheaders() if name == "connection"] == ["close"]


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({b"content-length": b"2"}, b"png"),
        ({b"content-length": b"4"}, b"png"),
        ({b"content-length": b"3", b"x-name": b"a\r\nset-cookie: b"}, b"png"),
        ({b"content-length": b"3", b"x-name": b"a\nb"}, b"png"),
    ],
)
def test_what_is_no_reply_is_not_begun(fields: Fields, body: bytes):
    transport = Transport()

    async def send() -> None:
        its = cycle(transport)
        await its.send({"type": "http.response.start", "status": 200, "headers": list(fields.items())})
        with pytest.raises(RuntimeError):
            await its.send({"type": "http.response.body", "body": body, "more_body": False})
        assert not its.response_started

    asyncio.run(send())
    assert transport.writes == []


def test_an_application_that_fails_before_the_body_is_a_500():
    transport = Transport()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    asyncio.run(cycle(transport).run_asgi(cast(Any, application)))
    assert read(transport)[0].status == 500


def test_nothing_is_sent_to_whoever_has_left():
    transport = Transport()

    async def send() -> None:
        its = cycle(transport)
        its.disconnected = True
        await its.send({"type": "http.response.start", "status": 200, "headers": []})
        await its.send({"type": "http.response.body", "body": b"png"})

    asyncio.run(send())
    assert transport.writes == []

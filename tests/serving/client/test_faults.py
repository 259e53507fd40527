"""Whatever befalls a connection, the caller has the right images, all of them, or a typed error in time."""

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest

from fault_proxy import Fault, Proxy, proxied
from server import Server
from serving.client import (
    BadGatewayError,
    BadRequestError,
    Client,
    ConnectionError,
    GanymedeError,
    ReplyError,
    TimeoutError,
    TransportError,
)
from stranger import ECHO, Stranger, raw

REPLY = 16 * 16 * 16 + 128  # bytes of the body of 16 images, after some 700 of headers


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with proxied(server.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def right(server: Server) -> np.ndarray:
    with Client(server.url) as client:
        return client.sample("tiny-dcgan", n=16, seed=7).array


@pytest.mark.parametrize("kind", ["reset", "truncate"])
@pytest.mark.parametrize("after", [0, 1, 17, 200, 700, 1000, REPLY, REPLY + 300])
def test_a_reply_cut_anywhere_is_an_error_then_the_right_images(
    connect: Any, proxy: Proxy, right: np.ndarray, impatient: None, kind: Any, after: int
):
    with connect(proxy.url, retries=0) as client:
        proxy.faults = [Fault(kind, after)]
        with pytest.raises(ConnectionError) as caught:
            client.sample("tiny-dcgan", n=16, seed=7)
        assert caught.value.request_id and caught.value.code == "connection"
        proxy.faults = [Fault(kind, after), Fault(kind, after)]
        before = proxy.connections
        found = client.with_options(retries=2).sample("tiny-dcgan", n=16, seed=7)
        assert np.array_equal(found.array, right) and proxy.connections == before + 3


def test_two_retries_and_no_more(connect: Any, proxy: Proxy, impatient: None):
    proxy.faults = [Fault("reset", 300)] * 9
    with connect(proxy.url) as client:
        with pytest.raises(ConnectionError):
            client.sample("tiny-dcgan", n=16, seed=7)
        assert proxy.connections == 3


@pytest.mark.parametrize("after", [0, 10, 200, 260])
def test_a_request_cut_anywhere_never_gets_images(connect: Any, proxy: Proxy, after: int):
    """The server sees the end of what was sent, in the head or in the body."""
    proxy.faults = [Fault("half-close", after)]
    with connect(proxy.url, retries=0, timeout=5) as client, pytest.raises(GanymedeError) as caught:
        client.sample("tiny-dcgan", n=16, seed=7)
    assert isinstance(caught.value, ConnectionError | BadRequestError)


def test_a_late_reply_is_a_timeout_in_time(connect: Any, proxy: Proxy, right: np.ndarray, impatient: None):
    for after in (0, 900):
        proxy.faults = [Fault("delay", after, seconds=30)] * 2
        with connect(proxy.url, retries=0, timeout=0.3) as client:
            began = time.monotonic()
            with pytest.raises(TimeoutError, match=r"within 0\.3 s"):
                client.sample("tiny-dcgan", n=16, seed=7)
            assert time.monotonic() - began < 15
            found = client.with_options(timeout=60, retries=2)
            proxy.faults = []
            assert np.array_equal(found.sample("tiny-dcgan", n=16, seed=7).array, right)


def test_a_reply_that_comes_byte_by_byte_is_a_timeout(connect: Any, proxy: Proxy):
    """Each byte comes in time, and the whole never does."""
    proxy.faults = [Fault("drip", 900, seconds=0.02)]
    with connect(proxy.url, retries=0, timeout=0.4) as client, pytest.raises(TimeoutError, match="still arriving"):
        client.sample("tiny-dcgan", n=16, seed=7)


def test_a_delay_that_is_borne_changes_nothing(connect: Any, proxy: Proxy, right: np.ndarray):
    proxy.faults = [Fault("delay", 900, seconds=0.2), Fault("drip", 4300, seconds=0.001)]
    with connect(proxy.url, retries=0) as client:
        assert np.array_equal(client.sample("tiny-dcgan", n=16, seed=7).array, right)
    with connect(proxy.url, retries=0) as client:
        assert np.array_equal(client.sample("tiny-dcgan", n=16, seed=7).array, right)


def test_a_stream_through_faults_skips_and_repeats_nothing(connect: Any, proxy: Proxy, impatient: None):
    """40 pages, a dozen of whose connections break at other places each."""
    proxy.faults = [
        Fault("reset" if i % 2 else "truncate", after) for i, after in enumerate([*range(0, 5000, 450), 0, 1])
    ]
    with connect(proxy.url, retries=9) as client:
        found = list(client.stream("tiny-cgan", n=640, seed=7, page=16))
        assert not proxy.faults, "all of them happened"
        assert [picture.index for picture in found] == list(range(640))
        whole = list(client.stream("tiny-cgan", n=640, seed=7))
        assert all(np.array_equal(a.array, b.array) and a.label == b.label for a, b in zip(found, whole, strict=True))


def pictures_reply(server: Server, **changes: Any) -> tuple[bytes, list[str]]:
    """What the real server answers to `sample("tiny-dcgan", n=2, seed=7)`, or to a request that differs."""
    body = {"model": "tiny-dcgan", "n": 2, "seed": 7, "start": 0} | changes
    reply = httpx2.post(f"{server.url}/v1/sample", json=body, headers={"Accept": "application/x-npy"})
    reply.headers["x-request-id"] = ECHO.decode()
    told = [f"{name}: {value}" for name, value in reply.headers.items() if name.startswith("x-")]
    return reply.content, told


@pytest.mark.parametrize("changes", [{"n": 3}, {"n": 1}, {"seed": 8}, {"start": 1}, {"model": "tiny-style"}], ids=str)
def test_a_reply_to_another_request_is_never_accepted(
    connect: Any, server: Server, stranger: Stranger, changes: dict[str, Any]
):
    with connect(stranger.url, retries=0) as client:
        stranger.answers.append(raw(*(lambda reply: (reply[0], *reply[1]))(pictures_reply(server))))
        assert len(client.sample("tiny-dcgan", n=2, seed=7)) == 2
        body, headers = pictures_reply(server, **changes)
        stranger.answers.append(raw(body, *headers))
        with pytest.raises(ReplyError, match="not what was asked for") as caught:
            client.sample("tiny-dcgan", n=2, seed=7)
        assert caught.value.code == "wrong-reply"


def test_a_reply_with_another_id_is_an_error_and_retried(
    connect: Any, server: Server, stranger: Stranger, impatient: None
):
    """All that it says fits, but it is the answer to another request: of a shared socket, or a confused proxy."""
    body, headers = pictures_reply(server)
    problem = b'{"type": "urn:problem-type:ganymede:invalid-request", "code": "invalid-request", "detail": "No."}'
    other = [line.replace(ECHO.decode(), "b" * 32) for line in headers]
    without = [line for line in headers if not line.startswith("x-request-id")]
    for wrong in (
        raw(body, *other),
        raw(body, *without).replace(ECHO, b""),
        raw(b'{"models": []}', "X-Request-Id: " + "b" * 32),
        raw(problem, "X-Request-Id: " + "b" * 32, status="422 Unprocessable Content"),
    ):
        with connect(stranger.url, retries=0) as client:
            stranger.answers.append(wrong)
            with pytest.raises(ReplyError) as caught:
                client.models() if b"models" in wrong else client.sample("tiny-dcgan", n=2, seed=7)
            assert caught.value.code == "wrong-reply"
    with connect(stranger.url, retries=1) as client:
        stranger.answers += [raw(body, *other), raw(body, *headers)]
        assert len(client.sample("tiny-dcgan", n=2, seed=7)) == 2


@pytest.mark.parametrize(
    ("route", "asked", "got"),
    [
        ("sample", {"labels": 3}, {"labels": 4}),
        ("sample", {"labels": ["3", "7"]}, {"labels": [3, 3]}),
        ("sample", {"labels": ["7", "3"]}, {"labels": 7}),
        ("sample", {"labels": ["7", "7"]}, {"labels": [7, 3]}),
        ("digits", {"digits": "77"}, {"digits": "73"}),
        ("sample", {"model": "tiny-style", "truncation": 0.5}, {"truncation": 0.25}),
        ("sample", {"model": "tiny-style", "truncation": 0.5}, {"truncation": None}),
        ("sample", {"model": "tiny-style"}, {"truncation": 0.5}),
        ("interpolate", {"keyframes": [1, 2], "frames": 4}, {"keyframes": [1, 3]}),
        ("interpolate", {"keyframes": [1, (2, 5)], "frames": 4, "loop": True}, {"loop": False}),
        ("interpolate", {"keyframes": [1, 2], "frames": 4, "labels": [3, 4]}, {"labels": [3, 3]}),
        ("style_mix", {"model": "tiny-style", "rows": [1], "columns": [2], "truncation": 0.5}, {"truncation": 1}),
    ],
    ids=str,
)
def test_a_reply_with_the_right_id_but_other_contents(
    connect: Any, server: Server, stranger: Stranger, route: str, asked: dict[str, Any], got: dict[str, Any]
):
    """Each route's answer to a request that differs in one field, though it has the id of the call."""
    defaults: dict[str, Any] = {} if "model" in asked else {"model": "tiny-cgan"}
    defaults |= {"n": 2, "seed": 7} if route == "sample" else {"seed": 7} if route == "digits" else {}
    body = {name: value for name, value in (defaults | asked | got).items() if value is not None}
    for name in {"keyframes"} & body.keys():
        body[name] = [{"seed": p[0], "index": p[1]} if isinstance(p, tuple) else p for p in body[name]]
    address = f"{server.url}/v1/{route.replace('_', '-')}"
    reply = httpx2.post(address, json=body, headers={"Accept": "application/x-npy", "X-Request-Id": ECHO.decode()})
    headers = [f"{name}: {value}" for name, value in reply.headers.items() if name.startswith("x-")]
    assert reply.status_code == 200, reply.text
    with connect(server.url) as client:  # what is asked is a good request
        assert len(getattr(client, route)(**(defaults | asked))) == len(np.load(io.BytesIO(reply.content)))
    with connect(stranger.url, retries=0) as client:
        stranger.answers.append(raw(reply.content, *headers))
        with pytest.raises(ReplyError, match="not what was asked for"):
            getattr(client, route)(**(defaults | asked))


def test_a_short_reply_without_a_length_is_not_taken_for_whole(connect: Any, server: Server, stranger: Stranger):
    body, headers = pictures_reply(server)
    with connect(stranger.url, retries=0) as client:
        stranger.answers.append(raw(body, *headers, length=-1))
        assert len(client.sample("tiny-dcgan", n=2, seed=7)) == 2
        for end in (0, 5, 10, 100, 200, len(body) - 1):
            stranger.answers.append(raw(body[:end], *headers, length=-1))
            with pytest.raises(ReplyError):
                client.sample("tiny-dcgan", n=2, seed=7)
        stranger.answers.append(raw(body + b"x", *headers))
        with pytest.raises(ReplyError):
            client.sample("tiny-dcgan", n=2, seed=7)


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"\x93NUMPY", length=100),
        raw(b"hello"),
        raw(b""),
        raw(b"\x93NUMPY\x01\x00\xff\xff" + b" " * 80),
        raw(b"\x80\x04N.", "Content-Encoding: gzip"),
        b"nonsense\r\n\r\n",
        b"",
    ],
)
def test_a_broken_answer_is_never_pictures(connect: Any, stranger: Stranger, answer: bytes):
    with connect(stranger.url, retries=0) as client:
        for call in (lambda: client.sample(seed=7), client.models, lambda: client.model("m")):
            stranger.answers.append(answer)
            with pytest.raises(TransportError):
                call()


def test_an_error_of_something_in_between_is_a_status_error(connect: Any, stranger: Stranger):
    stranger.answers.append(raw(b"<html>", "Retry-After: 700", status="502 Bad Gateway"))
    with connect(stranger.url) as client, pytest.raises(BadGatewayError, match="502") as caught:
        client.models()
    assert (caught.value.code, caught.value.retry_after) == ("unknown", 700)


def test_what_may_pass_is_tried_again_with_the_same_request(
    connect: Any, server: Server, stranger: Stranger, impatient: None
):
    """The seed that was drawn and the request id, too."""
    busy = [raw(b"", "Retry-After: 0", status="503 Service Unavailable"), raw(b"", status="409 Conflict")]
    stranger.answers.extend([*busy, raw(b"hello")])
    with connect(stranger.url) as client, pytest.raises(ReplyError) as caught:
        client.sample("tiny-dcgan", n=2)
    assert stranger.answers == [] and len(stranger.requests) == 3
    (request,) = set(stranger.requests)
    head, _, body = request.partition(b"\r\n\r\n")
    assert json.loads(body)["seed"] < 2**53
    assert f"x-request-id: {caught.value.request_id}".encode() in head.lower()
    assert b"x-request-timeout: 60.000" in head.lower(), "the server may stop when nobody waits any more"

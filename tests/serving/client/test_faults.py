"""Whatever befalls a connection, the caller has the right pictures, all of them, or a typed error in time."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
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

REPLY = 16 * 16 * 16 + 128  # bytes of the body of 16 pictures, after some 700 of headers


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


@dataclass
class Stranger:
    """A server that answers each connection's request with the next of `answers`, and ends the connection."""

    url: str
    answers: list[bytes] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)  # as they came, head and body


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    def request(connection: socket.socket) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536) or b"\r\n\r\n"
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        while length and len(body) < int(length[1]):
            body += connection.recv(65536)
        return head + b"\r\n\r\n" + body

    def answer() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                if stopped.is_set():
                    return
                found.requests.append(request(connection))
                if found.answers:
                    connection.sendall(found.answers.pop(0))

    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = Stranger(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread = threading.Thread(target=answer)
        thread.start()
        yield found
        stopped.set()
        socket.create_connection(listener.getsockname()).close()
        thread.join()


def raw(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", *([] if length == -1 else [f"Content-Length: {length or len(body)}"]), *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def pictures_reply(server: Server, **changes: Any) -> tuple[bytes, list[str]]:
    """What the real server answers to `sample("tiny-dcgan", n=2, seed=7)`, or to a request that differs."""
    body = {"model": "tiny-dcgan", "n": 2, "seed": 7, "start": 0} | changes
    reply = httpx2.post(f"{server.url}/v1/sample", json=body, headers={"Accept": "application/x-npy"})
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

"""Limits of a request: its size, time to arrive, time to be answered, and images. Some are the HTTP server's own."""

import http.client
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from typing import Any

import httpx2
import pytest

import tiny_models
from processes import wait, worker
from server import Server, serving

Serve = Callable[..., AbstractContextManager[Server]]

PATIENCE = 10  # seconds until a reply, or the end of a connection, is given up
HEAD = "POST /v1/sample HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def strict(serve: Serve) -> Iterator[Server]:
    """A server with little patience and a small queue."""
    settings = {"GANYMEDE_READ_TIMEOUT": "1", "GANYMEDE_MAX_QUEUE": "300", "GANYMEDE_TIMEOUT": "5"}
    with serve(**settings) as server:
        yield server


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and problem document of what comes over a connection."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    document = json.loads(response.read())
    assert response.headers["content-type"] == "application/problem+json"
    assert document["status"] == response.status and document["request_id"] == response.headers["x-request-id"]
    return response.status, document


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def closed(connection: socket.socket) -> bool:
    """Whether the server ends the connection, with nothing more."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"\0" * 100,
        b"GET / HTTP/9\r\n",
    ],
)
def test_broken_http_is_400_and_ends_the_connection(server: Server, sent: bytes):
    """In the HTTP server's words: the application never sees it."""
    with connect(server) as connection:
        connection.sendall(sent)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert (response.status, response.headers["connection"], response.read()) == (400, "close", b"")
        assert closed(connection)


@pytest.mark.skipif(sys.platform != "linux", reason="segments are counted by Linux alone")
def test_a_small_reply_is_one_segment(server: Server):
    """Its head and its body are one write."""
    replies = 20
    with connect(server) as connection:
        for _ in range(replies):
            connection.sendall(f"{HEAD}Content-Length: 8\r\n\r\n".encode() + b'{"n": 1}')
            received = b""
            while not received.endswith(b"IEND\xaeB`\x82"):
                received += connection.recv(1 << 16)
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 156)
    (segments,) = struct.unpack_from("I", info, 152)  # tcpi_data_segs_in of struct tcp_info
    assert segments == replies


@pytest.mark.parametrize("target", ["*", "http://127.0.0.1", "?", "//"])
def test_a_target_without_a_path_is_answered(server: Server, target: str):
    with connect(server) as connection:
        connection.sendall(f"OPTIONS {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status in (400, 404, 405)


def test_a_broken_body_is_a_problem(server: Server):
    with connect(server) as connection:
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n".encode())
        time.sleep(0.1)
        connection.sendall(b"nonsense\r\n")
        assert answer(connection)[0] == 400
        assert closed(connection)


def test_a_request_before_broken_http_is_answered(server: Server):
    with connect(server) as connection:
        connection.sendall(f"{HEAD}Content-Length: 10\r\n\r\n".encode() + b'{"n": 256}' + b"nonsense\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert (response.status, response.headers["content-type"]) == (200, "image/png")
        assert len(response.read()) == int(response.headers["content-length"])


@pytest.mark.parametrize("fields", [["X-Long: " + "x" * 5000] * 100, [f"X-{i}: y" for i in range(100)]])
def test_headers_without_end_are_431(server: Server, fields: list[str]):
    """At most 64 KiB, 32 at least, and 99 headers beside Host."""
    with connect(server) as connection:
        with suppress(OSError):  # it closes the connection
            connection.sendall("\r\n".join(["GET /livez HTTP/1.1", "Host: x", *fields, "", ""]).encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 431 ")


def test_headers_within_the_limits_are_accepted(http: httpx2.Client):
    assert http.get("/livez", headers={"X-Long": "x" * 30_000}).status_code == 200
    assert http.get("/livez", headers={f"X-{i}": "y" for i in range(90)}).status_code == 200


def test_tiny_chunks_are_joined(server: Server):
    body = b'{"model": "tiny-dcgan", "seed": 7}'
    with connect(server) as connection:
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200


def test_a_large_body_is_413_after_it_was_sent(http: httpx2.Client):
    response = http.post("/v1/sample", content=b" " * 5_000_000, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (413, "body-too-large")


@pytest.mark.parametrize(
    ("line", "body", "expected"),
    [
        ("POST /v1/sample", b" " * 100_000, 413),
        ("POST /nowhere", b"{}", 404),
        ("POST /livez", b"{}", 405),
        ("GET /v1/models", b" " * 1_000_000, 200),
    ],
)
def test_an_unread_body_leaves_the_connection_usable(server: Server, line: str, body: bytes, expected: int):
    """It comes a moment after its head, as most clients send it. The reply waits for it."""
    head = f"{line} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(server) as connection:
        for _ in range(3):
            connection.sendall(head.encode())
            time.sleep(0.02)
            connection.sendall(body)
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == expected and response.read()
            assert "connection" not in response.headers


def test_a_body_that_never_comes_delays_no_rejection(server: Server):
    with connect(server) as connection:
        connection.sendall(f"{HEAD}Content-Length: 70000\r\n\r\n{{".encode())
        began = time.monotonic()
        assert answer(connection)[0] == 413
        assert time.monotonic() - began < 5, "it waits for no body, which has 10 s"
        assert closed(connection)


def test_a_connection_may_be_idle_for_longer_than_a_body(strict: Server):
    """Load balancers keep connections for a minute; a server that ends one first loses the request that is coming."""
    with connect(strict) as connection:
        for idle in (0, 2.5):  # the read timeout is 1
            time.sleep(idle)
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 200 and response.read()


@pytest.fixture(scope="module")
def brief(serve: Serve) -> Iterator[Server]:
    """A server that keeps idle connections for a second."""
    with serve(GANYMEDE_KEEP_ALIVE="1") as server:
        yield server


@pytest.mark.parametrize("late", [b"", b"\r\n", b"GET /livez HTT"])
def test_an_idle_connection_is_closed(brief: Server, late: bytes):
    """Whatever came after the last reply: nothing, the end of a line, or half a request."""
    with connect(brief) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200
        assert response.read() and "connection" not in response.headers, "it is kept"
        connection.sendall(late)
        assert closed(connection)


def test_a_connection_without_a_request_is_closed(brief: Server):
    with connect(brief) as connection:
        began = time.monotonic()
        assert closed(connection)
        assert time.monotonic() - began > 0.5


def test_a_slow_head_is_cut_off_though_it_goes_on(brief: Server):
    with connect(brief) as connection:
        began = time.monotonic()
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-Slow: ")
        try:
            while time.monotonic() - began < PATIENCE:
                connection.sendall(b"x")
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - began < PATIENCE


def test_a_slow_body_is_cut_off_though_it_goes_on(strict: Server):
    with connect(strict) as connection:
        began = time.monotonic()
        connection.sendall(f"{HEAD}Content-Length: 100\r\n\r\n".encode())
        for _ in range(8):
            connection.sendall(b" ")
            time.sleep(0.1)
        status, document = answer(connection)
        assert (status, document["code"]) == (408, "slow-request")
        assert time.monotonic() - began > 0.5
        assert closed(connection)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of large replies, with little patience."""
    folder = tmp_path_factory.mktemp("noisy")
    document = tiny_models.document("noise", "dcgan", channels=3, size=256)
    tiny_models.write_model(folder / "models" / "noise", document, {"generator.onnx": tiny_models.noise(256, seed=1)})
    settings = {"GANYMEDE_READ_TIMEOUT": "2", "GANYMEDE_KEEP_ALIVE": "1"}
    with serving(folder / "models", folder / "log.txt", env=settings) as server:
        yield server


@pytest.mark.parametrize("accept", ["application/x-npy", "image/png"])
def test_a_slow_reader_gets_all_of_a_large_reply(noisy: Server, accept: str):
    """In pieces or whole, 8 or 9 MB, at 200 KB/s for longer than `GANYMEDE_READ_TIMEOUT` and `GANYMEDE_KEEP_ALIVE`."""
    body = b'{"n": 48}'
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", noisy.port))
        connection.sendall(f"{HEAD}Accept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        response = http.client.HTTPResponse(connection)
        response.begin()
        began, received = time.monotonic(), 0
        while time.monotonic() - began < 5:
            received += len(response.read(4000))
            time.sleep(0.02)
        assert received + len(response.read()) == int(response.headers["content-length"]) > 7_000_000


def test_json_may_not_be_nested_without_end(http: httpx2.Client):
    for nested in ("[" * 30_000, '{"a":' * 10_000, '{"labels": ' + "[" * 20_000 + "]" * 20_000 + "}"):
        response = http.post("/v1/sample", content=nested.encode(), headers={"Content-Type": "application/json"})
        assert response.status_code == 422


def test_a_full_queue_rejects_at_once_and_says_until_when(strict: Server):
    """Sixteen clients request 256 at a time of a queue of 300: some are served, the others rejected in less time.

    By the server's clock, and as a ratio: this machine's clients wait for each other.
    """
    body = {"model": "tiny-style", "n": 256}
    with httpx2.Client(base_url=strict.url, timeout=30) as client, ThreadPoolExecutor(16) as pool:
        headers = {"Accept": "application/x-npy"}
        answers = list(pool.map(lambda _: client.post("/v1/sample", json=body, headers=headers), range(160)))
        rejected = [response for response in answers if response.status_code == 503]
        assert {response.status_code for response in answers} == {200, 503}
        assert all(response.json()["code"] == "overloaded" for response in rejected)
        ids = [response.headers["x-request-id"] for response in answers]
        lines = [json.loads(line) for line in strict.logged(*ids).splitlines() if line.startswith("{")]
        took = {line["request_id"]: line["ms"] for line in lines if line.get("request_id") in ids}
        served, refused = (
            sorted(took[id] for id, answer in zip(ids, answers, strict=True) if answer.status_code == status)
            for status in (200, 503)
        )
        assert refused[len(refused) // 2] < served[len(served) // 2] / 2, (served, refused)
        time.sleep(max(int(response.headers["retry-after"]) for response in rejected))
        assert client.post("/v1/sample", json=body).status_code == 200


def test_a_request_has_the_time_it_asks_for(http: httpx2.Client):
    body = {"model": "tiny-style", "n": 256, "scale": 16}
    whole = http.post("/v1/sample", json=body, headers={"X-Request-Timeout": "25.5"})
    response = http.post("/v1/sample", json=body, headers={"X-Request-Timeout": "0.01"})
    assert whole.status_code == 200 and response.elapsed < whole.elapsed / 2
    assert (response.status_code, response.json()["code"]) == (504, "deadline-exceeded")
    assert "within 0.01 s" in response.json()["detail"]


def test_a_url_has_a_deadline_too(http: httpx2.Client):
    response = http.get("/v1/images/tiny-style/7/99.png", headers={"X-Request-Timeout": "0.000001"})
    assert response.status_code == 504


def test_work_past_its_deadline_stops(server: Server, http: httpx2.Client):
    """Eight requests for 256 images each, with a moment's time: nearly none of their images are computed."""

    def computed() -> float:
        return server.metric("ganymede_batch_images_sum")

    before = computed()
    with ThreadPoolExecutor(8) as pool:
        headers = {"X-Request-Timeout": "0.001"}
        body = {"model": "tiny-cgan", "n": 256}
        replies = list(pool.map(lambda _: http.post("/v1/sample", json=body, headers=headers), range(8)))
    assert {reply.status_code for reply in replies} == {504}
    time.sleep(0.3)
    assert computed() - before < 8 * 256 / 2


@pytest.mark.parametrize("timeout", ["", "0", "-1", "soon", "1e3", "nan", "inf", "٣", "1,5"])
def test_a_timeout_that_is_no_number_is_422(http: httpx2.Client, timeout: str):
    response = http.post("/v1/sample", json={}, headers=[(b"X-Request-Timeout", timeout.encode())])
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
    assert "`X-Request-Timeout`" in response.json()["detail"]


def test_more_time_than_the_server_allows_is_cut(strict: Server):
    headers = {"X-Request-Timeout": "1000"}
    assert httpx2.post(f"{strict.url}/v1/sample", json={}, headers=headers).status_code == 200


def test_connections_that_end_leave_nothing_behind(server: Server):
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{worker(server.process.pid)}/fd"))

    before = descriptors()
    for _ in range(200):
        with connect(server) as connection:
            connection.sendall(b"POST /v1/sample HTTP/1.1\r\nContent-")
    wait(lambda: descriptors() <= before + 5, 10)

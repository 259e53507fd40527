"""What a request may take: time to arrive, size, depth, work, a place in the queue, and time to be answered."""

import http.client
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx2
import pytest

import tiny_models
from server import Server, serving

Serve = Callable[..., AbstractContextManager[Server]]

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
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


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
def test_what_is_no_http_is_a_problem_and_the_end_of_the_connection(server: Server, sent: bytes):
    with connect(server) as connection:
        connection.sendall(sent)
        status, document = answer(connection)
        assert (status, document["code"]) == (400, "bad-http")
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
        assert answer(connection)[0] in (400, 404, 405)


def test_a_broken_body_is_a_problem(server: Server):
    with connect(server) as connection:
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n".encode())
        time.sleep(0.1)
        connection.sendall(b"nonsense\r\n")
        assert answer(connection)[0] == 400
        assert closed(connection)


def test_what_is_understood_before_the_nonsense_is_answered_first(server: Server):
    with connect(server) as connection:
        connection.sendall(f"{HEAD}Content-Length: 10\r\n\r\n".encode() + b'{"n": 256}' + b"nonsense")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert (response.status, response.headers["content-type"]) == (200, "image/png")
        assert len(response.read()) == int(response.headers["content-length"])
        assert closed(connection)


@pytest.mark.parametrize("field", ["X-Long: {}\r\n", "{}\r\n"])
def test_headers_without_end_are_refused(server: Server, field: str):
    with connect(server) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        try:
            for i in range(100):
                connection.sendall(field.format("x" * 5000 if "Long" in field else f"X-{i}: " + "y" * 2000).encode())
                time.sleep(0.002)
        except OSError:
            pass  # it hung up
        status, document = answer(connection)
        assert (status, document["code"]) == (431, "head-too-large")


def test_headers_of_a_head_that_comes_at_once_are_held_to_the_same(server: Server):
    with connect(server) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 33_000 + b"\r\n\r\n")
        assert answer(connection)[0] == 431


def test_headers_within_the_limit_are_taken(http: httpx2.Client):
    assert http.get("/livez", headers={"X-Long": "x" * 30_000}).status_code == 200


def test_trailers_without_end_are_refused(server: Server):
    with connect(server) as connection:
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n".encode())
        try:
            for i in range(100):
                connection.sendall(f"X-{i}: {'y' * 2000}\r\n".encode())
                time.sleep(0.002)
        except OSError:
            pass
        assert answer(connection)[0] == 431


def test_tiny_chunks_are_joined(server: Server):
    body = b'{"model": "tiny-dcgan", "seed": 7}'
    with connect(server) as connection:
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n")
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200


def test_a_long_body_is_told_its_limit_even_by_a_client_that_sends_all_of_it_first(http: httpx2.Client):
    response = http.post("/v1/sample", content=b" " * 5_000_000, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (413, "body-too-large")


def test_a_body_that_nobody_reads_does_no_harm(http: httpx2.Client):
    for _ in range(2):
        assert http.request("GET", "/v1/models", content=b" " * 1_000_000).status_code == 200


def test_who_says_nothing_is_hung_up_on(strict: Server):
    with connect(strict) as connection:
        began = time.monotonic()
        assert closed(connection)
        assert 0.5 < time.monotonic() - began < 4


def test_a_connection_may_be_idle_between_requests_for_longer_than_a_request_may_take_to_come(strict: Server):
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


@pytest.mark.parametrize(
    ("head", "late", "expected"),
    [
        ("GET /livez HTTP/1.1\r\nHost: x\r\n", b"", 200),
        ("GET /livez HTTP/1.1\r\nHost: x\r\n", b"\r\n", 200),
        (f"{HEAD.replace('application/json', 'text/plain')}Content-Length: 5\r\n", b"hello", 415),
    ],
)
def test_a_connection_that_is_idle_for_too_long_is_ended(brief: Server, head: str, late: bytes, expected: int):
    """Whatever came after the last reply: the body of what was refused from its head, or an end of line."""
    with connect(brief) as connection:
        connection.sendall(f"{head}\r\n".encode())
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == expected
        assert response.read() and "connection" not in response.headers, "it is kept"
        connection.sendall(late)
        assert closed(connection)


def test_a_slow_head_is_cut_off_though_it_goes_on(strict: Server):
    with connect(strict) as connection:
        began = time.monotonic()
        connection.sendall(b"GET /livez HTTP/1.1\r\nX-Slow: ")
        try:
            while time.monotonic() - began < 4:
                connection.sendall(b"x")
                time.sleep(0.1)
        except OSError:
            pass
        assert time.monotonic() - began < 4
        assert answer(connection)[0] == 408


def test_a_slow_body_is_cut_off_though_it_goes_on(strict: Server):
    with connect(strict) as connection:
        began = time.monotonic()
        connection.sendall(f"{HEAD}Content-Length: 100\r\n\r\n".encode())
        for _ in range(8):
            connection.sendall(b" ")
            time.sleep(0.1)
        status, document = answer(connection)
        assert (status, document["code"]) == (408, "slow-request")
        assert 0.5 < time.monotonic() - began < 4
        assert closed(connection)


def test_who_does_not_take_replies_is_cut_off(strict: Server):
    """A hundred replies of 196 KB each are asked for at once, and none is read for some time."""
    body = b'{"model": "tiny-style", "n": 256}'
    fields = f"Accept: application/x-npy\r\nX-Request-Id: test-limits-1\r\nContent-Length: {len(body)}\r\n\r\n"
    request = f"{HEAD}{fields}".encode() + body
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", strict.port))
        connection.sendall(request * 100)
        time.sleep(5)
        received = 0
        try:
            while part := connection.recv(1 << 20):
                received += len(part)
        except ConnectionResetError:
            pass
    assert received < 50 * 196_608
    assert 'ganymede_refused_requests_total{reason="slow-reader"} 1' in httpx2.get(f"{strict.url}/metrics").text
    (line,) = [line for line in strict.logged("slow-reader").splitlines() if "slow-reader" in line]
    assert json.loads(line)["request_id"] == "test-limits-1"


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of large replies, and of no patience but with who goes on."""
    folder = tmp_path_factory.mktemp("noisy")
    document = tiny_models.document("noise", "dcgan", channels=3, size=256)
    tiny_models.write_model(folder / "models" / "noise", document, {"generator.onnx": tiny_models.noise(256, seed=1)})
    settings = {"GANYMEDE_READ_TIMEOUT": "2", "GANYMEDE_KEEP_ALIVE": "1"}
    with serving(folder / "models", folder / "log.txt", env=settings) as server:
        yield server


@pytest.mark.parametrize("accept", ["application/x-npy", "image/png"])
def test_who_takes_a_large_reply_slowly_and_steadily_gets_all_of_it(noisy: Server, accept: str):
    """In pieces or whole, 8 or 9 MB, at 200 KB/s for longer than anything may stand still."""
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
    assert "slow-reader" not in httpx2.get(f"{noisy.url}/metrics").text


def test_json_may_not_be_nested_without_end(http: httpx2.Client):
    for nested in ("[" * 30_000, '{"a":' * 10_000, '{"labels": ' + "[" * 20_000 + "]" * 20_000 + "}"):
        response = http.post("/v1/sample", content=nested.encode(), headers={"Content-Type": "application/json"})
        assert response.status_code == 422


def test_a_full_queue_is_told_at_once_and_for_how_long(strict: Server):
    """Sixteen clients ask for 256 at a time of a queue of 300: some are served, the rest told within 50 ms.

    By the server's clock: this machine's clients wait for each other.
    """
    body = {"model": "tiny-style", "n": 256}
    with httpx2.Client(base_url=strict.url, timeout=30) as client, ThreadPoolExecutor(16) as pool:
        headers = {"Accept": "application/x-npy"}
        answers = list(pool.map(lambda _: client.post("/v1/sample", json=body, headers=headers), range(160)))
        refused = [response for response in answers if response.status_code == 503]
        assert {response.status_code for response in answers} == {200, 503}
        assert all(response.json()["code"] == "overloaded" for response in refused)
        ids = {response.headers["x-request-id"] for response in refused}
        lines = [json.loads(line) for line in strict.logged(*ids).splitlines() if line.startswith("{")]
        taken = sorted(line["ms"] for line in lines if line.get("request_id") in ids)
        assert len(taken) == len(refused) and taken[len(taken) * 95 // 100] < 50, taken
        time.sleep(max(int(response.headers["retry-after"]) for response in refused))
        assert client.post("/v1/sample", json=body).status_code == 200


def test_a_request_has_the_time_it_asks_for(http: httpx2.Client):
    body = {"model": "tiny-style", "n": 256, "scale": 16}
    began = time.monotonic()
    response = http.post("/v1/sample", json=body, headers={"X-Request-Timeout": "0.01"})
    assert time.monotonic() - began < 0.5
    assert (response.status_code, response.json()["code"]) == (504, "deadline-exceeded")
    assert "within 0.01 s" in response.json()["detail"]
    assert http.post("/v1/sample", json=body, headers={"X-Request-Timeout": "25.5"}).status_code == 200


def test_a_url_has_a_deadline_too(http: httpx2.Client):
    response = http.get("/v1/images/tiny-style/7/99.png", headers={"X-Request-Timeout": "0.000001"})
    assert response.status_code == 504


def test_the_work_of_what_is_late_stops(server: Server, http: httpx2.Client):
    """Eight requests for 256 images each, with a moment's time: nearly none of their images are computed."""

    def computed() -> float:
        text = http.get("/metrics").text
        return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith("ganymede_batch_images_sum"))

    before = computed()
    with ThreadPoolExecutor(8) as pool:
        headers = {"X-Request-Timeout": "0.001"}
        body = {"model": "tiny-cgan", "n": 256}
        replies = list(pool.map(lambda _: http.post("/v1/sample", json=body, headers=headers), range(8)))
    assert {reply.status_code for reply in replies} == {504}
    time.sleep(0.3)
    assert computed() - before < 8 * 256 / 2


@pytest.mark.parametrize("timeout", ["", "0", "-1", "soon", "1e3", "nan", "inf", "٣", "1,5"])
def test_a_timeout_that_is_none_is_told(http: httpx2.Client, timeout: str):
    response = http.post("/v1/sample", json={}, headers=[(b"X-Request-Timeout", timeout.encode())])
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
    assert "`X-Request-Timeout`" in response.json()["detail"]


def test_more_time_than_the_server_gives_is_not_to_be_had(strict: Server):
    headers = {"X-Request-Timeout": "1000"}
    assert httpx2.post(f"{strict.url}/v1/sample", json={}, headers=headers).status_code == 200


def test_connections_that_end_leave_nothing_behind(server: Server):
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))

    before = descriptors()
    for _ in range(200):
        with connect(server) as connection:
            connection.sendall(b"POST /v1/sample HTTP/1.1\r\nContent-")
    time.sleep(0.5)
    assert descriptors() <= before + 5

"""While a process has all the requests it can work at, others are refused from their head alone, and told all the same.

A server that has room for none refuses every one of them so. Where it is the queue of a model that is full, they are
refused from a body that came with its head, before there is a task for them.
"""

import http.client
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from faults.wire import connect, receive, send, statuses, talk
from server import Server, free_port, running

FULL = """
import sys
from serving.api.access.admission import Admission
from serving.__main__ import main
Admission.__init__.__defaults__ = (0,)
sys.exit(main(sys.argv[1:]))
"""
CROWDED = """
import sys
from serving.engine.batcher import Batcher, Overloaded
from serving.__main__ import main
refusal = Batcher.refusal
Batcher.refusal = lambda self, images: Overloaded(2.5) if images == 5 else refusal(self, images)
Batcher.busy = True
sys.exit(main(sys.argv[1:]))
"""
BODY = b'{"model": "tiny-dcgan"}'
HEAD = b"POST /v1/sample HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(BODY)
POST = HEAD + b"\r\n" + BODY
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
PICTURE = "/v1/images/tiny-dcgan/7/0.png"  # is refused, too, but by the gate


@pytest.fixture(scope="module")
def full(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, "-c", FULL, "serve", "--port", str(port), "--models", str(repository_folder)]
    settings = {"GANYMEDE_READ_TIMEOUT": "1", "GANYMEDE_CORS_ORIGINS": "https://a.example"}
    with running(command, port, log, env=settings) as server:
        yield server


@pytest.fixture(scope="module")
def crowded(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The queues of its models are full for whoever wants five pictures."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, "-c", CROWDED, "serve", "--port", str(port), "--models", str(repository_folder)]
    with running(command, port, log) as server:
        yield server


@pytest.fixture(scope="module")
def taskless(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As `crowded`; who comes as far as a task is answered with 500."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log.txt"
    code = "from serving.api.endpoints.generate import Operations\nOperations.answer = None\n" + CROWDED
    command = [sys.executable, "-c", code, "serve", "--port", str(port), "--models", str(repository_folder)]
    with running(command, port, log) as server:
        yield server


def counted(server: Server, start: str) -> int:
    lines = httpx2.get(f"{server.url}/metrics").text.splitlines()
    return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def ask(connection: socket.socket, request: bytes) -> http.client.HTTPResponse:
    """The reply, its body read, so that the connection is ready for another."""
    connection.sendall(request)
    response = http.client.HTTPResponse(connection)
    response.begin()
    assert response.read()
    return response


def test_it_is_told_what_the_gate_would_tell(full: Server):
    asked = {"X-Request-Id": "mine-7", "Origin": "https://a.example"}
    shed = httpx2.post(f"{full.url}/v1/sample", json={}, headers=asked)
    gate = httpx2.get(f"{full.url}{PICTURE}", headers=asked)
    assert shed.json() | {"instance": PICTURE} == gate.json()
    assert shed.headers.keys() == gate.headers.keys() >= {"date", "retry-after", "access-control-allow-origin"}
    assert (shed.status_code, shed.json()["code"]) == (503, "overloaded")
    assert (shed.headers["x-request-id"], shed.headers["retry-after"]) == ("mine-7", "1")


@pytest.mark.parametrize("route", ["/v1/sample", "/v1/digits", "/v1/interpolate", "/v1/style-mix"])
def test_it_is_counted_and_logged(full: Server, route: str):
    name = f'ganymede_requests_total{{route="{route}",method="POST",status="503"}}'
    before = counted(full, name), counted(full, 'ganymede_refused_requests_total{reason="overloaded"}')
    proxied = {"X-Forwarded-For": "10.0.0.7, 127.0.0.1"}
    id = httpx2.post(f"{full.url}{route}?a=b", json={}, headers=proxied).headers["x-request-id"]
    after = counted(full, name), counted(full, 'ganymede_refused_requests_total{reason="overloaded"}')
    assert after == (before[0] + 1, before[1] + 1)
    (line,) = [json.loads(line) for line in full.logged(id).splitlines() if id in line]
    assert (line["route"], line["status"], line["code"]) == (route, 503, "overloaded")
    assert line["client"] == "10.0.0.7", "who is behind a proxy of this machine"
    assert counted(full, "ganymede_requests_in_flight") == 1, "the scrape itself"


def test_the_connection_is_kept_and_the_next_request_is_understood(full: Server):
    with connect(full.port) as connection:
        for request, expected in ((POST, 503), (GET, 200), (POST, 503), (POST, 503), (GET, 200)):
            assert ask(connection, request).status == expected


def test_its_body_may_come_later_and_in_pieces(full: Server):
    for chunked in (False, True):
        head = HEAD if not chunked else HEAD.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n"
        body = BODY if not chunked else b"5\r\nabcde\r\n1\r\nx\r\n0\r\n\r\n"
        with connect(full.port) as connection:
            send(connection, [head + b"\r\n"])
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 503 and response.read()
            send(connection, [body[i : i + 1] for i in range(len(body))])
            connection.sendall(GET)
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 200


def test_requests_in_one_packet_are_all_answered_in_order(full: Server):
    last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answered = talk(full.port, (POST + GET) * 20 + POST * 20 + last, patience=30)
    assert answered == [503, 200] * 20 + [503] * 20 + [200]


def test_who_does_not_take_its_refusals_costs_no_memory(full: Server):
    """Thousands in one go, none of which is read: the server stops to read, and hangs up."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", full.port))
        assert not send(connection, [POST] * 200_000), "it took all of them"
    reasons = httpx2.get(f"{full.url}/metrics").text
    assert 'ganymede_refused_requests_total{reason="slow-reader"}' in reasons


@pytest.mark.parametrize("head", [HEAD + b"Connection: close\r\n", HEAD.replace(b"HTTP/1.1", b"HTTP/1.0")])
def test_a_connection_that_is_not_to_be_kept_ends_after_the_reply(full: Server, head: bytes):
    with connect(full.port) as connection:
        connection.sendall(head + b"\r\n" + BODY)
        received = receive(connection, patience=30)
        assert statuses(received) == [503] and b"connection: close\r\n" in received.lower()
        assert connection.recv(1) == b""


def test_a_body_that_never_comes_ends_the_connection(full: Server):
    with connect(full.port) as connection:
        connection.sendall(HEAD + b"\r\n{")
        assert statuses(receive(connection, patience=30)) == [503]
        assert connection.recv(1) == b""


def test_what_is_no_post_of_a_route_is_answered_as_ever(full: Server):
    with httpx2.Client(base_url=full.url) as client:
        assert client.get("/v1/sample").status_code == 405
        assert client.post("/v1/none", json={}).status_code == 404
        assert client.get("/v1/models").status_code == 200
        assert client.get("/readyz").status_code == 200


def test_broken_http_after_it_is_told(full: Server):
    assert talk(full.port, POST + b"nonsense\r\n\r\n", patience=30) == [503, 400]


def post(body: bytes, *headers: str) -> bytes:
    head = ["POST /v1/sample HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def test_where_the_queue_is_full_the_body_is_enough(taskless: Server):
    refused, admitted = post(b'{"model": "tiny-dcgan", "n": 5}'), post(b'{"model": "tiny-dcgan", "n": 4}')
    with connect(taskless.port) as connection:
        for sent, expected in ((refused, 503), (admitted, 500), (refused, 503), (GET, 200), (refused, 503)):
            response = ask(connection, sent)
            assert response.status == expected
            assert response.headers.get("retry-after") == ("3" if expected == 503 else None)
    last = post(b"{}", "Connection: close")
    assert talk(taskless.port, refused * 20 + last, patience=30) == [503] * 20 + [500], "in one packet"


def test_one_that_waits_for_the_reply_before_it_is_answered_in_its_turn(crowded: Server):
    refused, last = post(b'{"n": 5}'), post(b'{"n": 4}', "Connection: close")
    served = post(b'{"model": "tiny-dcgan", "n": 4}')
    assert talk(crowded.port, (served + refused) * 5 + last, patience=30) == [200, 503] * 5 + [200]


def test_what_is_wrong_is_told_as_ever_where_the_queue_is_full(crowded: Server):
    with httpx2.Client(base_url=crowded.url, headers={"Content-Type": "application/json"}) as client:
        assert client.post("/v1/sample", content=b'{"n": "5"}').json()["errors"][0]["pointer"] == "/n"
        assert client.post("/v1/sample", content=b'{"n": 5, "model": "none"}').status_code == 404
        assert client.post("/v1/sample", content=b'{"n": 5').status_code == 422
        assert client.post("/v1/sample", content=b" " * 65_537 + b'{"n": 5}').status_code == 413
        assert client.post("/v1/sample", content=b'{"n": 4}').status_code == 200


def test_a_body_that_comes_later_is_refused_by_the_gate_in_the_same_words(crowded: Server):
    body = b'{"n": 5}'
    head = post(body, "X-Request-Id: a", "Connection: close").removesuffix(body)
    replies = []
    for first, second in ((head + body, b""), (head, body)):
        with connect(crowded.port) as connection:
            connection.sendall(first)
            time.sleep(0.1)
            connection.sendall(second)
            head_of_reply, _, document = receive(connection, patience=30).partition(b"\r\n\r\n")
            replies.append((sorted(line for line in head_of_reply.split(b"\r\n") if b"date:" not in line), document))
    assert replies[0][0][0].startswith(b"HTTP/1.1 503") and replies[0] == replies[1]

"""Who may ask: API keys, quotas, other sites' pages."""

import hashlib
import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx2
import pytest

from server import Server

Serve = Callable[..., AbstractContextManager[Server]]

PICTURE = "/v1/images/tiny-dcgan/7/0.png"
EVERYTHING = ["/v1/models", "/v1/models/tiny-dcgan", PICTURE, "/metrics", "/openapi.json", "/docs", "/schema.json"]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def line(key: str, name: str) -> str:
    return f"{hashlib.sha256(key.encode()).hexdigest()}  {name}\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    path.write_text(line("sesame-1", "alice") + line("sesame-2", "bob"))
    return path


@pytest.fixture(scope="module")
def closed(serve: Serve, keys: Path) -> Iterator[Server]:
    """A server with keys, a quota, and one site whose pages may ask."""
    settings = {
        "GANYMEDE_API_KEYS_FILE": str(keys),
        "GANYMEDE_RATE_LIMIT": "20",
        "GANYMEDE_CORS_ORIGINS": "https://a.example",
    }
    with serve(**settings) as server:
        yield server


@pytest.mark.parametrize("path", [*EVERYTHING, "/v1/none"])
def test_without_a_key_nothing_is_told(closed: Server, path: str):
    for headers in ({}, bearer("sesame-3"), {"Authorization": "Basic c2VzYW1lLTE="}):
        response = httpx2.get(f"{closed.url}{path}", headers=headers)
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"
    assert httpx2.post(f"{closed.url}/v1/sample", json={}).status_code == 401


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_needs_no_key(closed: Server, path: str):
    assert httpx2.get(f"{closed.url}{path}").status_code == 200


@pytest.mark.parametrize("path", ["/", "/playground/main.js", "/playground/base.css"])
def test_the_playground_itself_needs_no_key(closed: Server, path: str):
    assert httpx2.get(f"{closed.url}{path}").status_code == 200


@pytest.mark.parametrize("path", EVERYTHING)
def test_with_a_key_everything_is_answered(closed: Server, path: str):
    assert httpx2.get(f"{closed.url}{path}", headers=bearer("sesame-1")).status_code == 200


def test_an_image_that_needs_a_key_is_cached_by_no_proxy(closed: Server, http: httpx2.Client):
    cached = httpx2.get(f"{closed.url}{PICTURE}", headers=bearer("sesame-1")).headers["cache-control"]
    assert cached == "private, max-age=31536000, immutable"
    assert http.get(PICTURE).headers["cache-control"] == "public, max-age=31536000, immutable"


def test_a_key_is_revoked_without_a_restart(closed: Server, keys: Path):
    before = keys.read_text()
    url = f"{closed.url}/v1/models"
    assert httpx2.get(url, headers=bearer("sesame-2")).status_code == 200
    keys.write_text(line("sesame-1", "alice"))
    assert httpx2.get(url, headers=bearer("sesame-2")).status_code == 401
    assert httpx2.get(url, headers=bearer("sesame-1")).status_code == 200
    keys.write_text(before)
    assert httpx2.get(url, headers=bearer("sesame-2")).status_code == 200


def test_no_key_is_in_the_log(closed: Server):
    httpx2.get(f"{closed.url}/v1/models?key=sesame-1", headers=bearer("sesame-1"))
    httpx2.get(f"{closed.url}/v1/models", headers=bearer("sesame-wrong"))
    log = closed.logged("alice", "unauthorized")
    assert "alice" in log and "sesame" not in log


def test_over_its_rate_a_client_is_told_when_to_retry(closed: Server):
    def sample(key: str) -> httpx2.Response:
        return httpx2.post(f"{closed.url}/v1/sample", json={"n": 64}, headers=bearer(key))

    assert sample("sesame-2").status_code == 200
    refused = sample("sesame-2")
    assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 4
    assert httpx2.get(f"{closed.url}/v1/models", headers=bearer("sesame-1")).status_code == 200
    assert httpx2.get(f"{closed.url}/metrics", headers=bearer("sesame-2")).status_code == 200


def test_requests_at_once_get_no_more_than_in_sequence(closed: Server):
    """All are let in on their heads, while the client has its quota whole; the images are counted by the bodies."""
    body = b'{"n": 64}'
    headers = bearer("sesame-1") | {"Content-Type": "application/json", "Content-Length": str(len(body))}
    connections = [http.client.HTTPConnection("127.0.0.1", closed.port, timeout=30) for _ in range(5)]
    for connection in connections:
        connection.putrequest("POST", "/v1/sample")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
    deadline = time.monotonic() + 30
    while in_flight(closed) < len(connections) + 1:  # with the one that asks
        assert time.monotonic() < deadline
        time.sleep(0.05)
    statuses = []
    for connection in connections:
        connection.send(body)
        with connection.getresponse() as response:
            statuses.append(response.status)
        connection.close()
    assert statuses == [200, 429, 429, 429, 429]


def in_flight(server: Server) -> float:
    metrics = httpx2.get(f"{server.url}/metrics", headers=bearer("sesame-2")).text
    return sum(float(row.split()[-1]) for row in metrics.splitlines() if row.startswith("ganymede_requests_in_flight"))


def test_on_an_ipv6_socket_clients_of_ipv4_are_told_apart(serve: Serve):
    """Those of this machine, and whom a proxy on it names: each has its quota, and is in the log by its own address."""
    clients = {"127.0.0.2": {}, "127.0.0.3": {}, "127.0.0.1": {"X-Forwarded-For": "10.0.0.7"}}
    with serve("--host", "::ffff:127.0.0.1", GANYMEDE_RATE_LIMIT="1") as server:
        for address, headers in clients.items():
            with httpx2.Client(transport=httpx2.HTTPTransport(local_address=address), timeout=30) as client:
                assert client.post(f"{server.url}/v1/sample", json={"n": 64}, headers=headers).status_code == 200
        named = [f'"client": "{address}"' for address in ("127.0.0.2", "127.0.0.3", "10.0.0.7")]
        assert all(name in server.logged(*named) for name in named)


def test_there_is_no_quota_unless_set(http: httpx2.Client):
    assert {http.post("/v1/sample", json={"n": 256}).status_code for _ in range(20)} == {200}


def test_a_page_of_an_allowed_site_may_ask_and_read_the_reply(closed: Server):
    origin = {"Origin": "https://a.example"}
    asks = origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    preflight = httpx2.options(f"{closed.url}/v1/sample", headers=asks)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://a.example"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    for headers in (bearer("sesame-1"), {}):  # problems are to be read, too
        reply = httpx2.get(f"{closed.url}/v1/models", headers=origin | headers)
        assert reply.headers["access-control-allow-origin"] == "https://a.example"
        assert "Origin" in reply.headers["vary"]
        assert "X-Ganymede-Seed" in reply.headers["access-control-expose-headers"]


def test_a_page_of_another_site_may_not(closed: Server, http: httpx2.Client):
    asks = {"Origin": "https://b.example", "Access-Control-Request-Method": "POST"}
    preflight = httpx2.options(f"{closed.url}/v1/sample", headers=asks)
    assert preflight.status_code == 400 and "access-control-allow-origin" not in preflight.headers
    reply = httpx2.get(f"{closed.url}/v1/models", headers=asks | bearer("sesame-1"))
    assert "access-control-allow-origin" not in reply.headers
    for response in (http.options("/v1/sample", headers=asks), http.get("/v1/models", headers=asks)):
        assert not [name for name in response.headers if name.startswith("access-control")], "off unless set"

"""The server counts what its clients counted, exactly: errors, rejections and closed connections among them."""

import contextlib
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from faults.wire import connect, send, talk
from processes import wait
from server import Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.serial]

KEY = "0123456789abcdef" * 4
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
LARGE = b'{"model": "tiny-style", "n": 256, "scale": 16}'  # 50 MB of pixels: there is time to leave
HEAD = b"POST /v1/sample HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\n"
CLIENTS = 8

# method, path, headers besides the key's, body: everything that a request can come to, in about equal shares
REQUESTS: list[tuple[str, str, dict[str, str], object]] = [
    ("POST", "/v1/sample", {}, {"model": "tiny-dcgan", "n": 20}),
    ("POST", "/v1/sample", {"Accept": "application/x-npy"}, {"model": "tiny-dcgan", "n": 256}),
    ("POST", "/v1/digits", {"Accept": "application/zip"}, {"digits": "42"}),
    ("GET", "/v1/images/tiny-dcgan/7/0.png", {}, None),
    ("GET", "/v1/models", {}, None),
    ("POST", "/v1/sample", {}, {"n": 0}),
    ("POST", "/v1/sample", {}, {"model": "none"}),
    ("POST", "/v1/sample", {"Accept": "text/html"}, {}),
    ("POST", "/v1/sample", {"Content-Type": "text/plain"}, {}),
    ("POST", "/v1/sample", {"X-Request-Timeout": "0.000001"}, {"model": "tiny-dcgan"}),
    ("POST", "/v1/sample", {}, {"model": "x" * 70_000}),
    ("POST", "/v1/sample", {"Authorization": "Bearer none"}, {}),
    ("GET", "/v1/sample", {}, None),
    ("GET", "/nowhere", {}, None),
    ("GET", "/v1/models", {"Authorization": "Bearer none"}, None),
]


@dataclass
class Tally:
    """What a client counts. `left`: requests that were sent whole, and whose reply it did not wait for."""

    statuses: Counter[int] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    left: int = 0

    def add(self, path: str, response: httpx2.Response, body: object) -> None:
        self.statuses[response.status_code] += 1
        self.routes[path] += 1
        if response.status_code >= 400:
            self.codes[response.json()["code"]] += 1
        elif path == "/v1/digits":
            self.images["tiny-cgan"] += 2
        elif path == "/v1/sample" or path.startswith("/v1/images/"):
            self.images["tiny-dcgan"] += body.get("n", 1) if isinstance(body, dict) else 1


def counted(server: Server) -> Counter[tuple[str, str]]:
    """The server's counters and gauges: (name, a label's value) -> the sum over all else. Names without labels: ""."""
    found: Counter[tuple[str, str]] = Counter()
    text = httpx2.get(f"{server.url}/metrics", headers=AUTHORIZED).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for value in sample.labels.values() or ("",):
                found[sample.name, value] += int(sample.value)
    return found


def ask(server: Server, seed: int, rounds: int) -> Tally:
    """So many times all requests, in some order."""
    rng, tally = random.Random(seed), Tally()
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        for method, path, headers, body in rng.sample(REQUESTS * rounds, len(REQUESTS) * rounds):
            content = None if body is None else json.dumps(body).encode()
            sent = {"Content-Type": "application/json"} | AUTHORIZED | headers
            tally.add(path, client.request(method, path, headers=sent, content=content), body)
    return tally


def leave(server: Server, times: int) -> Tally:
    """Asks for a lot and hangs up, at once or a moment later."""
    tally, request = Tally(), HEAD % KEY.encode() + b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE
    for i in range(times):
        with connect(server.port) as connection:
            assert send(connection, [request])
            time.sleep(0.01 * (i % 3))
        tally.left += 1
    return tally


def break_http(server: Server, times: int) -> Tally:
    """What is no request is answered by the HTTP server, and not counted."""
    for _ in range(times):
        assert talk(server.port, b"nonsense\r\n\r\n", patience=30) == [400]
    return Tally()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_server_counts_what_its_clients_counted(
    repository_folder: Path, tmp_path: Path, workers: str, full: bool, tell: Callable[[str], None]
):
    keys, rounds = tmp_path / "keys.txt", 60 if full else 6
    keys.write_text(hashlib.sha256(KEY.encode()).hexdigest() + " alice\n")
    settings = {"GANYMEDE_API_KEYS_FILE": str(keys), "GANYMEDE_MAX_QUEUE": "600", "GANYMEDE_RATE_LIMIT": "4000"}
    with serving(repository_folder, tmp_path / "log.txt", "--workers", workers, env=settings) as server:
        wait(lambda: counted(server)["ganymede_ready_workers", ""] == int(workers), 30)
        before = counted(server)
        with ThreadPoolExecutor(CLIENTS + 2) as pool:
            asking = [pool.submit(ask, server, seed, rounds) for seed in range(CLIENTS)]
            others = [pool.submit(leave, server, 3 * rounds), pool.submit(break_http, server, rounds)]
            tallies = [future.result() for future in asking + others]
        with contextlib.suppress(AssertionError):  # those who left may still be under way
            wait(lambda: counted(server)["ganymede_requests_in_flight", ""] == 1, 20)
        scrapes = counted(server)["ganymede_requests_total", "/metrics"] - before["ganymede_requests_total", "/metrics"]
        after = counted(server)
    grown = Counter({name: after[name] - before[name] for name in after | before})
    statuses, routes, codes, images = Counter(), Counter(), Counter(), Counter()
    for tally in tallies:
        statuses, routes = statuses + tally.statuses, routes + tally.routes
        codes, images = codes + tally.codes, images + tally.images
    left = sum(tally.left for tally in tallies)
    gone = grown["ganymede_refused_requests_total", "client-gone"]
    tell(f"{workers} workers: {statuses.total()} answers, {dict(sorted(statuses.items()))}; {left} clients left, "
         f"{gone} before their reply")  # fmt: skip
    assert after["ganymede_requests_in_flight", ""] == 1, "the scrape itself"
    assert all(after["ganymede_queue_images", model] == 0 for model in ("tiny-dcgan", "tiny-cgan", "tiny-style"))
    assert statuses.keys() >= {200, 401, 404, 405, 406, 413, 415, 422, 504}
    # A client that left does not know what became of its request. The server counts it once, or never: the HTTP server
    # drops a request whose connection closes before the application has it.
    unknown = {
        status: grown["ganymede_requests_total", str(status)] - statuses[status] for status in (200, 400, 429, 503)
    }
    unknown[200] -= scrapes + 1
    assert all(count >= 0 for count in unknown.values()) and 0 < sum(unknown.values()) <= left, unknown
    assert unknown[400] == gone
    assert grown["ganymede_images_total", "tiny-style"] == 256 * unknown[200]
    for status in statuses.keys() - unknown.keys():
        assert grown["ganymede_requests_total", str(status)] == statuses[status]
    for route in ("/v1/digits", "/v1/models"):
        assert (
            grown["ganymede_requests_total", route] == routes[route] == grown["ganymede_request_seconds_count", route]
        )
    assert grown["ganymede_requests_total", "/v1/sample"] == routes["/v1/sample"] + left
    for code in codes.keys() - {"rate-limited", "overloaded"}:
        assert grown["ganymede_refused_requests_total", code] == codes[code], code
    for model, count in images.items():
        assert grown["ganymede_images_total", model] == count

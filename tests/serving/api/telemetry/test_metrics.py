"""What the service counts of itself: exact, in Prometheus' form, and bounded whatever is sent."""

import errno
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server import ROOT, Server
from serving.api.telemetry.metrics import Metrics

Serve = Callable[..., AbstractContextManager[Server]]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module", params=["1", "3"], ids=lambda workers: f"{workers} workers")
def counted(serve: Serve, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that only these tests ask."""
    with serve("--workers", request.param) as server:
        yield server


def scrape(server: Server) -> Samples:
    """Every sample, as Prometheus' own parser reads it; each family is described once."""
    response = httpx2.get(f"{server.url}/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(response.text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation and family.type in ("counter", "gauge", "histogram") for family in families)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum over the samples of a name that have these labels."""
    return sum(
        value for (found, held), value in samples.items() if found == name and labels.items() <= dict(held).items()
    )


def test_counters_agree_exactly_with_what_a_client_counted(counted: Server):
    rng = random.Random(7)
    before = scrape(counted)
    requests: list[tuple[str, str, dict[str, Any] | None]] = [
        rng.choice(
            [
                ("POST", "/v1/sample", {"model": "tiny-dcgan", "n": rng.randint(1, 20)}),
                ("POST", "/v1/sample", {"n": 0}),
                ("POST", "/v1/digits", {"digits": "42"}),
                ("POST", "/v1/interpolate", {"model": "tiny-style", "keyframes": [1, 2], "frames": 3}),
                ("GET", f"/v1/images/tiny-dcgan/7/{rng.randint(0, 9)}.png", None),
                ("GET", "/v1/models", None),
                ("GET", "/none", None),
                ("DELETE", "/v1/models", None),
            ]
        )
        for _ in range(300)
    ]

    def ask(request: tuple[str, str, dict[str, Any] | None]) -> tuple[str, int]:
        method, path, body = request
        return path, http.request(method, path, json=body).status_code

    with httpx2.Client(base_url=counted.url, timeout=30) as http, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, requests))
    after = scrape(counted)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    statuses = Counter(str(status) for _, status in answers)
    for status, count in statuses.items():
        own = 1 if status == "200" else 0  # the first scrape is counted in the second
        assert grown("ganymede_requests_total", status=status) == count + own
    for path in ("/v1/sample", "/v1/digits", "/v1/interpolate", "/v1/models"):
        asked = sum(1 for found, _ in answers if found == path)
        assert grown("ganymede_requests_total", route=path) == asked
        assert grown("ganymede_request_seconds_count", route=path) == asked
    images: Counter[str] = Counter()
    for (_, path, body), (_, status) in zip(requests, answers, strict=True):
        if status == 200 and path == "/v1/sample" and body:
            images["tiny-dcgan"] += int(body["n"])
        elif path.startswith("/v1/images/"):
            images["tiny-dcgan"] += 1
        elif path == "/v1/digits":
            images["tiny-cgan"] += 2
        elif path == "/v1/interpolate":
            images["tiny-style"] += 3
    for model, count in images.items():
        assert grown("ganymede_images_total", model=model) == count
        assert grown("ganymede_batch_images_sum", model=model) >= count, "health checks come on top"
    assert grown("ganymede_refused_requests_total", reason="invalid-request") == statuses["422"]
    assert grown("ganymede_refused_requests_total", reason="unknown-route") == statuses["404"]
    assert grown("ganymede_refused_requests_total", reason="method-not-allowed") == statuses["405"]


def test_nothing_is_in_flight_once_all_is_answered(counted: Server):
    httpx2.post(f"{counted.url}/v1/sample", json={})
    time.sleep(0.2)
    samples = scrape(counted)
    assert value(samples, "ganymede_requests_in_flight") == 1, "the scrape itself"
    assert value(samples, "ganymede_queue_images") == 0
    assert value(samples, "ganymede_ready_workers") in (1, 3)
    assert value(samples, "process_resident_memory_bytes") > 50e6
    assert value(samples, "process_open_fds") > 5


def test_the_models_that_are_served_are_named(counted: Server):
    samples = scrape(counted)
    for model in httpx2.get(f"{counted.url}/v1/models").json()["models"]:
        labels = {"model": model["id"], "family": model["family"], "sha256": model["sha256"]}
        assert value(samples, "ganymede_model_info", **labels) == 1


def test_paths_and_methods_that_nobody_has_add_no_series(counted: Server):
    def ask(i: int) -> None:
        client.get(f"/{rng.getrandbits(64):x}/{i}")
        client.get(f"/v1/images/{rng.getrandbits(64):x}/{i}/{i}.png")
        client.get(f"/v1/models/{i}")
        client.request(f"X{i}", "/v1/models")

    rng = random.Random(7)
    with httpx2.Client(base_url=counted.url) as client:
        for i in range(20):
            ask(i)
        before = {name for name, _ in scrape(counted)}, len(scrape(counted))
        for i in range(20, 300):
            ask(i)
        after = {name for name, _ in scrape(counted)}, len(scrape(counted))
    assert after[0] == before[0]
    assert after[1] <= before[1] + 40, "workers that were not asked before may have their own"


def test_the_metrics_of_a_process_outlive_it_but_for_its_gauges(tmp_path: Path):
    """As prometheus_client reads its environment when it is imported, each process is one of its own."""
    code = """
import os, sys
from serving.api.http.problems import overloaded
from serving.api.http.context import RequestContext
from serving.api.telemetry.metrics import Metrics
metrics = Metrics()
metrics.count_in_flight(1)
context = RequestContext.internal("/v1/sample", 30)
context.status, context.problem = 503, overloaded(1)
metrics.answered(context, "/v1/sample", 0.02)
sys.stdout.buffer.write(metrics.render([]))
"""
    for count in (1, 2):
        environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        lines = done.stdout.splitlines()
        assert f'ganymede_refused_requests_total{{reason="overloaded"}} {count}.0' in lines
        assert f'ganymede_request_seconds_bucket{{le="0.025",route="/v1/sample"}} {count}.0' in lines
        assert 'ganymede_request_seconds_bucket{le="0.01",route="/v1/sample"} 0.0' in lines
        assert "ganymede_requests_in_flight 1.0" in lines
        assert len([line for line in lines if line.startswith("process_resident_memory_bytes ")]) == 1


def test_a_full_disk_is_found_before_metrics_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with pytest.raises(OSError, match="No space left"):
        Metrics()

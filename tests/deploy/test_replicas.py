"""Two replicas behind HAProxy with deploy/haproxy.cfg: clients lose no image when one replica restarts or dies.

Needs `haproxy` (apt-get install haproxy). `FAULTS=full` applies more load for longer.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import httpx2
import numpy as np
import pytest

from benchmarks.replicas import proxy
from faults.load import Load
from processes import wait
from server import Server, free_port, running, serve, serving
from serving.client import Client
from tools import needs

DRAIN = 1.0  # seconds; HAProxy checks four times per second
FULL = os.environ.get("FAULTS") == "full"
RATE = 200 if FULL else 60  # requests/s, each for 4 images
RETRIES = 5

pytestmark = [pytest.mark.slow, pytest.mark.serial, needs("haproxy", package="haproxy")]


class Replicas:
    """Two servers with one model repository, behind a proxy."""

    def __init__(self, models: Path, logs: Path):
        self.models = models
        self._logs = logs
        self._stack = ExitStack()
        self._ports = [free_port(), free_port()]
        self.servers = [self._stack.enter_context(self._running(i)) for i in (0, 1)]
        self.port = free_port()
        self._stack.enter_context(proxy([self.port, *self._ports], logs / "haproxy.txt"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._stack.close()

    def start(self, number: int) -> None:
        """Start a replica again after it has ended."""
        self.servers[number] = self._stack.enter_context(self._running(number))

    def _running(self, number: int) -> AbstractContextManager[Server]:
        port = self._ports[number]
        log = self._logs / f"{number}-{time.monotonic_ns()}.txt"
        return running(serve(self.models, port), port, log, env={"GANYMEDE_DRAIN": str(DRAIN)})


@pytest.fixture
def replicas(repository_folder: Path, tmp_path: Path) -> Iterator[Replicas]:
    models = tmp_path / "models"
    shutil.copytree(repository_folder, models, ignore=shutil.ignore_patterns("tiny-style"))
    both = Replicas(models, tmp_path)
    try:
        yield both
    finally:
        both.close()


def models(url: str) -> set[str]:
    return {model["id"] for model in httpx2.get(f"{url}/v1/models").json()["models"]}


def up(replicas: Replicas) -> bool:
    """Return True if the request counters of both servers grow, so that the proxy uses both."""
    before = [answered(server) for server in replicas.servers]
    for _ in range(8):
        httpx2.get(f"{replicas.url}/v1/models")
    return all(answered(server) > count for server, count in zip(replicas.servers, before, strict=True))


def answered(server: Server) -> float:
    return server.metric("ganymede_requests_total", route="/v1/models")


def test_a_rolling_restart_that_adds_a_model_fails_no_request(
    replicas: Replicas, repository_folder: Path, tell: Callable[[str], None]
):
    """The client does not retry."""
    wait(lambda: up(replicas), 10)
    assert models(replicas.url) == {"tiny-cgan", "tiny-dcgan"}
    with Load(replicas.port, rate=RATE, images=4, seconds=300, fresh=5) as clients:
        time.sleep(1)
        shutil.copytree(repository_folder / "tiny-style", replicas.models / "tiny-style")
        began = time.monotonic()
        for _ in range(3 if FULL else 1):
            for number in (0, 1):
                server = replicas.servers[number]
                server.process.send_signal(signal.SIGTERM)
                assert server.process.wait(20) == 0
                replicas.start(number)
                wait(lambda: up(replicas), 10)
        seconds = time.monotonic() - began
        time.sleep(1)
        clients.stop()
        found = clients.report()
    tell(
        f"rolling restart of 2 replicas in {seconds:.1f} s under {RATE} requests/s: {found['sent']} sent, "
        f"{found['statuses']}, {found['broken']} broken, longest {found['accepted_ms']['max']:.0f} ms"
    )
    assert found["statuses"] == {200: found["sent"]} and (found["broken"], found["lost"]) == (0, 0)
    assert all(models(server.url) == {"tiny-cgan", "tiny-dcgan", "tiny-style"} for server in replicas.servers)


def test_a_replica_that_is_killed_costs_at_most_a_retry(replicas: Replicas, tell: Callable[[str], None]):
    wait(lambda: up(replicas), 10)
    for _ in range(5 if FULL else 1):
        with Load(replicas.port, rate=RATE, images=4, seconds=300, fresh=5, retries=RETRIES) as clients:
            time.sleep(1.5)
            replicas.servers[0].process.kill()
            replicas.servers[0].process.wait()
            time.sleep(1.5)
            clients.stop()
            found = clients.report()
        tell(
            f"kill -9 of one of 2 replicas: {found['sent']} sent, {found['broken']} retried, {found['lost']} lost, "
            f"longest {found['accepted_ms']['max']:.0f} ms"
        )
        assert found["lost"] == 0 and found["statuses"] == {200: found["sent"]}
        replicas.start(0)
        wait(lambda: up(replicas), 10)


def test_a_client_stream_survives_a_killed_replica(replicas: Replicas):
    """The stream has all images in order, and they equal those of an undisturbed server."""
    with Client(replicas.url) as client:
        seen = []
        for image in client.stream("tiny-dcgan", n=6_000, seed=7):
            seen.append(image.array)
            if len(seen) == 600:
                replicas.servers[0].process.kill()
        with Client(replicas.servers[1].url) as other:
            expected = [image.array for image in other.stream("tiny-dcgan", n=6_000, seed=7)]
    replicas.servers[0].process.wait()
    assert np.array_equal(np.stack(seen), np.stack(expected))


def test_a_client_cannot_choose_its_address(repository_folder: Path, tmp_path: Path):
    """The proxy replaces X-Forwarded-For, so a client cannot evade the rate limit with this header."""
    settings = {"FORWARDED_ALLOW_IPS": "*", "GANYMEDE_RATE_LIMIT": "1", "GANYMEDE_DRAIN": "0"}
    port = free_port()
    with (
        serving(repository_folder, tmp_path / "log.txt", env=settings) as server,
        proxy([port, server.port, free_port()], tmp_path / "haproxy.txt"),
    ):

        def ask(source: str, claimed: str) -> int:
            transport = httpx2.HTTPTransport(local_address=source)
            with httpx2.Client(transport=transport, headers={"X-Forwarded-For": claimed}) as client:
                return client.post(f"http://127.0.0.1:{port}/v1/sample", json={"n": 64}).status_code

        assert [ask("127.0.0.1", f"10.0.0.{i}") for i in range(3)] == [200, 429, 429]
        assert ask("127.0.0.2", "127.0.0.1") == 200, "another client has its own rate"

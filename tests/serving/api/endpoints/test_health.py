"""Ready means that every model makes its picture, and that the server stays."""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event

import httpx2
import numpy as np
import pytest

from processes import wait, workers
from server import Server
from serving.api.endpoints import health as module
from serving.api.endpoints.health import Health
from serving.api.served_models import Generators, load_runtimes
from serving.api.telemetry.metrics import Metrics
from serving.engine.runtime import Runtime

Serve = Callable[..., AbstractContextManager[Server]]


def code(health: Health) -> str | None:
    return None if health.problem is None else health.problem.code


def detail(health: Health) -> str:
    return "" if health.problem is None else health.problem.detail


def run(repository: Path, scenario) -> None:
    """Calls `scenario(health, generators)` with the real models."""

    async def main() -> None:
        generators = Generators(repository, Metrics(None), max_queue=2048)
        try:
            await scenario(Health(Metrics(None)), generators)
        finally:
            await generators.close()

    load_runtimes.cache_clear()
    asyncio.run(main())


def test_nothing_is_ready_before_every_model_has_made_a_picture(repository_folder: Path):
    async def scenario(health: Health, generators: Generators) -> None:
        assert code(health) == "not-ready"
        await health.beat(generators)
        assert code(health) is None
        assert all(generator.batcher.computed == 1 for generator in generators)

    run(repository_folder, scenario)


def test_a_model_that_fails_is_named_and_ready_again_when_it_works(
    repository_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    async def scenario(health: Health, generators: Generators) -> None:
        await health.beat(generators)
        with monkeypatch.context() as broken:

            def fail(self: Runtime, inputs: dict[str, np.ndarray]) -> np.ndarray:
                raise RuntimeError("CUDA error")

            broken.setattr(Runtime, "compute", fail)
            await health.beat(generators)
            assert code(health) == "not-ready" and "`tiny-dcgan` fails: RuntimeError." in detail(health)
        await health.beat(generators)
        assert code(health) is None

    run(repository_folder, scenario)


def test_another_picture_than_at_the_start_is_a_failure(repository_folder: Path, monkeypatch: pytest.MonkeyPatch):
    compute = Runtime.compute

    async def scenario(health: Health, generators: Generators) -> None:
        await health.beat(generators)
        monkeypatch.setattr(Runtime, "compute", lambda self, inputs: 255 - compute(self, inputs))
        await health.beat(generators)
        assert "makes another picture than it did" in detail(health)

    run(repository_folder, scenario)


def test_an_inference_that_hangs_is_a_failure(repository_folder: Path, monkeypatch: pytest.MonkeyPatch):
    go, compute = Event(), Runtime.compute

    def hang(self: Runtime, inputs: dict[str, np.ndarray]) -> np.ndarray:
        assert go.wait(20)
        return compute(self, inputs)

    async def scenario(health: Health, generators: Generators) -> None:
        await health.beat(generators)
        monkeypatch.setattr(module, "BEAT_SECONDS", 0.1)
        monkeypatch.setattr(Runtime, "compute", hang)
        await health.beat(generators)
        go.set()
        assert code(health) == "not-ready" and "hangs" in detail(health)

    run(repository_folder, scenario)


def test_a_busy_model_is_ready(repository_folder: Path):
    """Refused by a full queue that is worked off: other servers would only be sent its load as well."""

    async def scenario(health: Health, generators: Generators) -> None:
        await health.beat(generators)
        generator = generators.get("tiny-style")
        w = np.zeros((2048, 6, 12), np.float32)
        drawing = asyncio.create_task(generator.batcher.run({"w": w}))
        await asyncio.sleep(0.05)
        await health.beat(generators)
        assert code(health) is None
        await drawing

    run(repository_folder, scenario)


def test_draining_is_not_ready_at_once():
    health = Health(Metrics(None))
    health.drain()
    assert code(health) == "draining" and health.draining


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_server_that_is_to_end_says_so_first_answers_all_it_takes_and_exits_with_0(serve: Serve, workers: str):
    """SIGTERM under load: not ready at once, clients are told to connect elsewhere, none loses a request."""
    statuses: list[int | str] = []
    stop = threading.Event()

    def ask(server: Server) -> None:
        with httpx2.Client(base_url=server.url, timeout=20) as client:
            while not stop.is_set():
                reply = client.post("/v1/sample", json={"n": 16}, headers={"Accept": "application/x-npy"})
                statuses.append(reply.status_code)
                if reply.headers.get("connection") == "close":  # "connect elsewhere"
                    told.append(True)
                    return

    told: list[bool] = []
    with serve("--workers", workers, GANYMEDE_DRAIN="1.5") as server:
        threads = [threading.Thread(target=ask, args=(server,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.8 if workers == "2" else 0.3)  # a supervisor looks twice a second
        reply = httpx2.get(f"{server.url}/readyz")
        assert (reply.status_code, reply.json()["code"]) == (503, "draining")
        assert httpx2.post(f"{server.url}/v1/sample", json={}).status_code == 200, "it still takes requests"
        assert server.process.wait(15) == 0
        stop.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200}
        assert len(told) == 4
        assert "Traceback" not in server.log.read_text()
        assert all(json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{"))


@pytest.mark.slow
def test_a_worker_that_is_killed_is_started_again(serve: Serve):
    with serve("--workers", "2") as server:
        before = workers(server.process.pid)
        assert len(before) == 2
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        wait(lambda: len(workers(server.process.pid) - {victim}) == 2, 2)
        assert httpx2.post(f"{server.url}/v1/sample", json={}).status_code == 200, "the other one serves meanwhile"

"""A server is ready while every model makes its image, and while it is not about to stop."""

import asyncio
import json
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event

import httpx2
import numpy as np
import pytest

from processes import wait
from server import Server
from serving.api.endpoints import health as module
from serving.api.endpoints.health import Health
from serving.api.served_models import ServedModels, load_runtimes
from serving.api.telemetry.metrics import Metrics
from serving.engine.runtime import Runtime

Serve = Callable[..., AbstractContextManager[Server]]


def code(health: Health) -> str | None:
    return None if health.problem is None else health.problem.code


def detail(health: Health) -> str:
    return "" if health.problem is None else health.problem.detail


def run(repository: Path, scenario) -> None:
    """Call `scenario(health, models)` with the real models."""

    async def main() -> None:
        metrics = Metrics()
        models = ServedModels(metrics, max_queue=2048)
        models.load(repository)
        try:
            await scenario(Health(models, metrics), models)
        finally:
            await models.close()

    load_runtimes.cache_clear()
    asyncio.run(main())


def test_nothing_is_ready_before_every_model_made_an_image(repository_folder: Path):
    async def scenario(health: Health, models: ServedModels) -> None:
        assert code(health) == "not-ready"
        await health.check()
        assert code(health) is None
        assert all(served.batcher.computed == 1 for served in models)

    run(repository_folder, scenario)


def test_a_failing_model_is_named_until_it_works_again(repository_folder: Path, monkeypatch: pytest.MonkeyPatch):
    async def scenario(health: Health, models: ServedModels) -> None:
        await health.check()
        with monkeypatch.context() as broken:

            def fail(self: Runtime, inputs: dict[str, np.ndarray]) -> np.ndarray:
                raise RuntimeError("CUDA error")

            broken.setattr(Runtime, "compute", fail)
            await health.check()
            assert code(health) == "not-ready" and "`tiny-dcgan` fails: RuntimeError." in detail(health)
        await health.check()
        assert code(health) is None

    run(repository_folder, scenario)


def test_another_image_than_at_the_start_is_a_failure(repository_folder: Path, monkeypatch: pytest.MonkeyPatch):
    compute = Runtime.compute

    async def scenario(health: Health, models: ServedModels) -> None:
        await health.check()
        monkeypatch.setattr(Runtime, "compute", lambda self, inputs: 255 - compute(self, inputs))
        await health.check()
        assert "makes another image than at its start" in detail(health)

    run(repository_folder, scenario)


def test_an_inference_that_hangs_is_a_failure(repository_folder: Path, monkeypatch: pytest.MonkeyPatch):
    go, compute = Event(), Runtime.compute

    def hang(self: Runtime, inputs: dict[str, np.ndarray]) -> np.ndarray:
        assert go.wait(20)
        return compute(self, inputs)

    async def scenario(health: Health, models: ServedModels) -> None:
        await health.check()
        monkeypatch.setattr(module, "CHECK_SECONDS", 0.1)
        monkeypatch.setattr(Runtime, "compute", hang)
        await health.check()
        go.set()
        assert code(health) == "not-ready" and "hangs" in detail(health)

    run(repository_folder, scenario)


def test_a_busy_model_is_ready(repository_folder: Path):
    """A full queue that shrinks is no failure: other servers would only get its load as well."""

    async def scenario(health: Health, models: ServedModels) -> None:
        await health.check()
        w = np.zeros((2048, 6, 12), np.float32)
        generating = asyncio.create_task(models.get("tiny-style").batcher.run({"w": w}))
        await asyncio.sleep(0.05)
        await health.check()
        assert code(health) is None
        await generating

    run(repository_folder, scenario)


def test_draining_is_not_ready_at_once():
    metrics = Metrics()
    health = Health(ServedModels(metrics, max_queue=2048), metrics)
    health.drain()
    assert code(health) == "draining" and health.draining


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_sigterm_drains_and_closes_connections(serve: Serve, workers: str):
    """Not ready at once; replies tell clients to connect elsewhere; none loses a request; exit code 0."""
    statuses: list[int] = []
    closed: list[bool] = []

    def send_requests(server: Server) -> None:
        with httpx2.Client(base_url=server.url, timeout=20) as client:
            while True:
                reply = client.post("/v1/sample", json={"n": 16}, headers={"Accept": "application/x-npy"})
                statuses.append(reply.status_code)
                if reply.headers.get("connection") == "close":
                    closed.append(True)
                    return

    with serve("--workers", workers, GANYMEDE_DRAIN="1.5") as server:
        server.wait_for_workers(int(workers))
        threads = [threading.Thread(target=send_requests, args=(server,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait(lambda: len(statuses) > 10, 20)
        server.process.send_signal(signal.SIGTERM)
        wait(lambda: httpx2.get(f"{server.url}/readyz").status_code == 503, 1.4)
        assert httpx2.get(f"{server.url}/readyz").json()["code"] == "draining"
        assert httpx2.post(f"{server.url}/v1/sample", json={}).status_code == 200, "it still accepts requests"
        assert server.process.wait(15) == 0
        for thread in threads:
            thread.join()
        assert set(statuses) == {200}
        assert len(closed) == 4
        log = server.log.read_text()
        assert "Traceback" not in log
        assert all(json.loads(line) for line in log.splitlines() if line.startswith("{"))


def test_a_slow_model_is_verified_less_often(repository_folder: Path, monkeypatch: pytest.MonkeyPatch):
    async def scenario(health: Health, models: ServedModels) -> None:
        slow, *others = models
        monkeypatch.setattr(slow.runtime, "seconds_per_image", 2.0)
        for _ in range(3):
            await health.check()
        assert code(health) is None
        assert slow.batcher.computed == 1 and all(served.batcher.computed == 3 for served in others)

    run(repository_folder, scenario)

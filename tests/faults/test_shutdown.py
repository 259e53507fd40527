"""Ends, wanted and not: nothing that was accepted is lost, and what is left is a server or none, never half of one."""

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from faults.load import Load
from processes import wait, workers
from server import Server, serving

RATE = 100  # requests a second, each for 4 images: a part of what a busy machine can do
NOTICED = 0.3  # seconds from the answer that it is not ready to the last request of a load balancer


def ready_workers(server: Server) -> int:
    for line in httpx2.get(f"{server.url}/metrics").text.splitlines():
        if line.startswith("ganymede_ready_workers "):
            return int(line.split()[1])
    return 0


def not_ready(server: Server) -> bool:
    return httpx2.get(f"{server.url}/readyz").status_code == 503


@pytest.mark.parametrize("number", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_sigterm_under_load_loses_nothing(
    repository_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: str,
    full: bool,
    tell: Callable[[str], None],
):
    """Behind a balancer that asks `/readyz`: it says no first, everything sent is answered, and the exit code is 0."""
    monkeypatch.setenv("GANYMEDE_DRAIN", "2")
    with serving(repository_folder, tmp_path / "log.txt", "--workers", number) as server:
        wait(lambda: ready_workers(server) == int(number), 30)
        with Load(server.port, rate=RATE, images=4, seconds=60, fresh=5) as clients:
            time.sleep(10 if full else 1.5)
            server.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            told = wait(lambda: not_ready(server), 2)
            time.sleep(NOTICED)
            clients.stop()
            found = clients.report()
            assert server.process.wait(20) == 0
            ended = time.monotonic() - began
    tell(f"SIGTERM, {number} workers: not ready after {1000 * told:.0f} ms, {found['sent']} requests all answered, "
         f"exit 0 after {ended:.1f} s")  # fmt: skip
    assert set(found["statuses"]) == {200}
    assert (found["statuses"][200], found["broken"], found["lost"]) == (found["sent"], 0, 0)
    assert ended < 2 + 5


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_clients_a_retry(
    repository_folder: Path, tmp_path: Path, full: bool, tell: Callable[[str], None]
):
    """`kill -9` under load: another is started within 2 s, and nothing is lost by who asks again."""
    with serving(repository_folder, tmp_path / "log.txt", "--workers", "2") as server:
        wait(lambda: ready_workers(server) == 2, 30)
        for _ in range(5 if full else 1):
            with Load(server.port, rate=RATE, images=4, seconds=60, fresh=5, retries=5) as clients:
                time.sleep(1.5)
                before = workers(server.process.pid)
                os.kill(min(before), signal.SIGKILL)
                started = wait(lambda before=before: len(workers(server.process.pid) - {min(before)}) == 2, 30)
                ready = started + wait(lambda: ready_workers(server) == 2, 30)
                clients.stop()
                found = clients.report()
            tell(f"kill -9 of a worker: another started after {started:.2f} s, ready after {ready:.1f} s; of "
                 f"{found['sent']} requests {found['broken']} were sent again and {found['lost']} lost")  # fmt: skip
            assert started < 2 or not full, "on a machine with nothing else to do"
            assert found["lost"] == 0 and found["statuses"] == {200: found["sent"]}


@pytest.mark.slow
def test_a_supervisor_that_is_killed_leaves_no_worker_behind(repository_folder: Path, tmp_path: Path):
    """They would hold the port, with nobody to stop them or start them again."""
    with serving(repository_folder, tmp_path / "log.txt", "--workers", "2") as server:
        left = workers(server.process.pid)
        assert len(left) == 2
        server.process.kill()
        server.process.wait()
        wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), 15)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", server.port))
            other.listen()


@pytest.mark.slow
def test_a_worker_that_cannot_start_again_ends_the_server(repository_folder: Path, tmp_path: Path):
    """So an orchestrator hears of it: a model was changed under the server. It says which, in one line."""
    models = Path(shutil.copytree(repository_folder, tmp_path / "models"))
    with serving(models, tmp_path / "log.txt", "--workers", "2") as server:
        wait(lambda: ready_workers(server) == 2, 30)
        os.truncate(models / "tiny-dcgan" / "generator.onnx", 1000)
        os.kill(min(workers(server.process.pid)), signal.SIGKILL)
        assert server.process.wait(30) == 1
    said = (tmp_path / "log.txt").read_text()
    assert "`generator.onnx` has 1000 bytes, where `model.json` says" in said and "Traceback" not in said


@pytest.mark.slow
def test_a_worker_that_is_started_again_serves_what_its_server_started_with(repository_folder: Path, tmp_path: Path):
    """A model was copied beside the others since, and another is being copied; one that was changed ends the server."""
    models = Path(shutil.copytree(repository_folder, tmp_path / "models", ignore=shutil.ignore_patterns("tiny-style")))

    def told() -> list[str]:
        return [model["id"] for model in httpx2.get(f"{server.url}/v1/models").json()["models"]]

    with serving(models, tmp_path / "log.txt", "--workers", "2") as server:
        wait(lambda: ready_workers(server) == 2, 30)
        shutil.copytree(repository_folder / "tiny-style", models / "tiny-style")
        (models / "tiny-half").mkdir()
        shutil.copy(repository_folder / "tiny-cgan" / "model.json", models / "tiny-half")
        before = workers(server.process.pid)
        os.kill(min(before), signal.SIGKILL)
        wait(lambda: len(workers(server.process.pid) - {min(before)}) == 2, 30)
        wait(lambda: ready_workers(server) == 2, 30)
        assert [told() for _ in range(16)] == [["tiny-cgan", "tiny-dcgan"]] * 16
        rename(models / "tiny-dcgan")
        os.kill(max(before), signal.SIGKILL)
        assert server.process.wait(30) == 1
    said = (tmp_path / "log.txt").read_text()
    assert "tiny-dcgan: is not what it was when the server started." in said and "Traceback" not in said


def rename(model: Path) -> None:
    document = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(document | {"name": "Another"}))

"""Ends, wanted and not: no accepted request is lost, and what remains is a whole server or none."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from faults.load import Load
from processes import wait, worker, workers
from server import ROOT, START_SECONDS, Server, free_port, serve, serving

pytestmark = [pytest.mark.slow, pytest.mark.serial]

RATE = 100  # requests/s, each for 4 images: a part of what a busy machine can do
NOTICED = 0.3  # seconds from the answer that it is not ready to the last request of a load balancer
REPLACED = 4.0  # seconds from `kill -9` to the next worker's start


def is_ready(server: Server) -> bool:
    return httpx2.get(f"{server.url}/readyz").status_code == 200


def replaced(supervisor: int, killed: int, count: int) -> bool:
    return len(workers(supervisor) - {killed}) == count


@pytest.mark.parametrize("number", [1, 2])
def test_sigterm_under_load_loses_nothing(
    repository_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    full: bool,
    tell: Callable[[str], None],
):
    """Behind a balancer that reads `/readyz`: it falls first, every request is answered, and the exit code is 0."""
    monkeypatch.setenv("GANYMEDE_DRAIN", "2")
    with serving(repository_folder, tmp_path / "log.txt", "--workers", str(number)) as server:
        server.wait_for_workers(number)
        with Load(server.port, rate=RATE, images=4, seconds=60, fresh=5) as clients:
            time.sleep(10 if full else 1.5)
            server.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            seconds = wait(lambda: not is_ready(server), 2)
            time.sleep(NOTICED)
            clients.stop()
            found = clients.report()
            assert server.process.wait(20) == 0
            ended = time.monotonic() - began
    tell(f"SIGTERM, {number} workers: not ready after {1000 * seconds:.0f} ms, {found['sent']} requests all answered, "
         f"exit 0 after {ended:.1f} s")  # fmt: skip
    assert set(found["statuses"]) == {200}
    assert (found["statuses"][200], found["broken"], found["lost"]) == (found["sent"], 0, 0)
    assert ended < 2 + 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("count", ["1", "2"])
def test_a_signal_during_the_start_ends_it_at_once(
    repository_folder: Path, tmp_path: Path, number: signal.Signals, count: str
):
    """Workers exist but are not ready, and have no handlers of their own yet. SIGINT goes to the process group."""
    command, log = serve(repository_folder, free_port(), "--workers", count), tmp_path / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=stream, stderr=stream, env=os.environ | {"GANYMEDE_DRAIN": "0"},
            start_new_session=True,
        )  # fmt: skip
    try:
        wait(lambda: len(workers(process.pid)) >= 1, START_SECONDS)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        assert process.wait(15) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text() and "Unexpected exit" not in log.read_text()


def test_a_killed_worker_costs_clients_a_retry(
    repository_folder: Path, tmp_path: Path, full: bool, tell: Callable[[str], None]
):
    """`kill -9` under load: another starts within 4 s, and a client that retries loses nothing."""
    with serving(repository_folder, tmp_path / "log.txt", "--workers", "2") as server:
        server.wait_for_workers(2)
        for _ in range(5 if full else 1):
            with Load(server.port, rate=RATE, images=4, seconds=60, fresh=5, retries=5) as clients:
                time.sleep(1.5)
                victim = min(workers(server.process.pid))
                os.kill(victim, signal.SIGKILL)
                started = wait(lambda victim=victim: replaced(server.process.pid, victim, 2), 30)
                ready = started + wait(lambda: server.metric("ganymede_ready_workers") == 2, 30)
                clients.stop()
                found = clients.report()
            tell(f"kill -9 of a worker: another started after {started:.2f} s, ready after {ready:.1f} s; of "
                 f"{found['sent']} requests {found['broken']} were sent again and {found['lost']} lost")  # fmt: skip
            assert started < REPLACED
            assert found["lost"] == 0 and found["statuses"] == {200: found["sent"]}
            time.sleep(6 if full else 0)  # one that dies within 5.5 s of its start ends the server


def test_the_only_worker_is_replaced(repository_folder: Path, tmp_path: Path):
    with serving(repository_folder, tmp_path / "log.txt", env={"GANYMEDE_DRAIN": "0"}) as server:
        victim = worker(server.process.pid)
        os.kill(victim, signal.SIGKILL)
        wait(lambda: replaced(server.process.pid, victim, 1), REPLACED)
        server.wait_until_ready()
        assert httpx2.post(f"{server.url}/v1/sample", json={}).status_code == 200
        assert server.stop() == 0
        assert "Unexpected exit from worker-1" in server.log.read_text()


def test_a_worker_that_dies_twice_in_5_s_ends_the_server(repository_folder: Path, tmp_path: Path):
    """It would never serve, while an orchestrator sees a process that lives."""
    with serving(repository_folder, tmp_path / "log.txt", env={"GANYMEDE_DRAIN": "0"}) as server:
        victim = worker(server.process.pid)
        os.kill(victim, signal.SIGKILL)
        wait(lambda: replaced(server.process.pid, victim, 1), REPLACED)
        (second,) = workers(server.process.pid) - {victim}
        os.kill(second, signal.SIGKILL)
        assert server.process.wait(20) == 1
    log = (tmp_path / "log.txt").read_text()
    assert "Worker crash loop detected, exiting" in log and "Traceback" not in log


def test_a_killed_supervisor_leaves_no_worker_behind(repository_folder: Path, tmp_path: Path):
    """They would hold the port, with no process to stop or replace them."""
    with serving(repository_folder, tmp_path / "log.txt", "--workers", "3") as server:
        left = workers(server.process.pid)
        assert len(left) == 3
        server.process.kill()
        server.process.wait()
        wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), 15)
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", server.port))
            other.listen()


def test_a_worker_that_cannot_restart_ends_the_server(repository_folder: Path, tmp_path: Path):
    """A model was changed under the server. It says which, in one line, and the orchestrator sees exit code 1."""
    models = Path(shutil.copytree(repository_folder, tmp_path / "models"))
    with serving(models, tmp_path / "log.txt", "--workers", "2") as server:
        server.wait_for_workers(2)
        os.truncate(models / "tiny-dcgan" / "generator.onnx", 1000)
        os.kill(min(workers(server.process.pid)), signal.SIGKILL)
        assert server.process.wait(30) == 1
    (line,) = [line for line in (tmp_path / "log.txt").read_text().splitlines() if line.startswith("ganymede: ")]
    assert "`generator.onnx` has 1000 bytes; `model.json` requires" in line
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def test_a_new_worker_serves_the_models_of_the_start(repository_folder: Path, tmp_path: Path):
    """One was copied beside them since, another is being copied. Once one of them changes, the server ends."""
    models = Path(shutil.copytree(repository_folder, tmp_path / "models", ignore=shutil.ignore_patterns("tiny-style")))

    def served() -> list[str]:
        return [model["id"] for model in httpx2.get(f"{server.url}/v1/models").json()["models"]]

    with serving(models, tmp_path / "log.txt", "--workers", "2") as server:
        server.wait_for_workers(2)
        shutil.copytree(repository_folder / "tiny-style", models / "tiny-style")
        (models / "tiny-half").mkdir()
        shutil.copy(repository_folder / "tiny-cgan" / "model.json", models / "tiny-half")
        before = workers(server.process.pid)
        os.kill(min(before), signal.SIGKILL)
        wait(lambda: replaced(server.process.pid, min(before), 2), 30)
        server.wait_for_workers(2)
        assert [served() for _ in range(16)] == [["tiny-cgan", "tiny-dcgan"]] * 16
        rename(models / "tiny-dcgan")
        os.kill(max(before), signal.SIGKILL)
        assert server.process.wait(30) == 1
    log = (tmp_path / "log.txt").read_text()
    assert "tiny-dcgan: has changed since the server started." in log and "Traceback" not in log


def rename(model: Path) -> None:
    document = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(document | {"name": "Another"}))

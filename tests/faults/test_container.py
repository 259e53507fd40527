"""The server as the first process of a container: signals reach it, and it never lives on without being able to serve.

A process namespace of the server's own, which takes no privilege where Linux lets users have one; elsewhere these tests
are left out, and say so.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from processes import children, wait, workers
from server import START_SECONDS, Server, free_port, serve, serving

pytestmark = [pytest.mark.slow, pytest.mark.serial]

CONTAINER = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    """Leaves these tests out where Linux gives this user no namespaces."""
    works = shutil.which("unshare") and subprocess.run([*CONTAINER, "true"], capture_output=True)
    if not works or works.returncode:
        pytest.skip("this user may not make process namespaces here")


@contextmanager
def contained(repository: Path, log: Path, *options: str) -> Iterator[tuple[Server, int]]:
    """A server and the process that is the first of its container, by the id that it has outside."""
    with serving(repository, log, *options, env={"GANYMEDE_DRAIN": "0"}, under=CONTAINER) as server:
        (first,) = children(server.process.pid)
        assert f"\nNSpid:\t{first}\t1\n" in Path(f"/proc/{first}/status").read_text()
        try:
            yield server, first
        finally:
            if server.process.poll() is None:
                os.kill(first, signal.SIGTERM)  # unshare itself does not pass it on


@pytest.mark.parametrize("number", ["1", "2"])
def test_sigterm_ends_it_with_0(repository_folder: Path, tmp_path: Path, number: str):
    with contained(repository_folder, tmp_path / "log.txt", "--workers", number) as (server, first):
        assert httpx2.post(f"{server.url}/v1/sample", json={}).status_code == 200
        assert server.metric("process_resident_memory_bytes") > 50e6, "it finds itself in /proc"
        os.kill(first, signal.SIGTERM)
        assert server.process.wait(20) == 0


@pytest.mark.parametrize("library", [b"_socket", b"numpy", b"onnxruntime"])
def test_sigterm_ends_it_while_it_starts(repository_folder: Path, tmp_path: Path, library: bytes):
    """The kernel passes the first process of a container only signals that it listens to."""
    log = (tmp_path / "log.txt").open("wb")
    process = subprocess.Popen([*CONTAINER, *serve(repository_folder, free_port())], stdout=log, stderr=log)
    try:
        wait(lambda: len(children(process.pid)) == 1, 20)
        (first,) = children(process.pid)
        wait(lambda: library in Path(f"/proc/{first}/maps").read_bytes(), START_SECONDS)
        os.kill(first, signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        log.close()
    assert "Traceback" not in (tmp_path / "log.txt").read_text()


def test_a_killed_supervisor_ends_the_container(repository_folder: Path, tmp_path: Path):
    with contained(repository_folder, tmp_path / "log.txt") as (server, first):
        os.kill(first, signal.SIGKILL)
        assert server.process.wait(10) not in (0, None)


def test_a_killed_worker_is_replaced_within_4_s(repository_folder: Path, tmp_path: Path, tell: Callable[[str], None]):
    with contained(repository_folder, tmp_path / "log.txt", "--workers", "2") as (server, first):
        server.wait_for_workers(2)
        victim, other = workers(first)
        os.kill(victim, signal.SIGKILL)
        seconds = wait(lambda: len(workers(first) - {victim}) == 2, 30)
        assert httpx2.post(f"{server.url}/v1/sample", json={}).status_code == 200 and other in workers(first)
        tell(f"kill -9 of a worker in a container: another after {seconds:.2f} s")
        assert seconds < 4
        os.kill(first, signal.SIGTERM)
        assert server.process.wait(20) == 0
    assert "Unexpected exit from worker-" in (tmp_path / "log.txt").read_text()


def test_a_worker_that_keeps_dying_ends_the_container(repository_folder: Path, tmp_path: Path):
    """It would never serve, while the orchestrator sees a process that lives."""
    with contained(repository_folder, tmp_path / "log.txt", "--workers", "2") as (server, first):
        healthy, victim = workers(first)
        os.kill(victim, signal.SIGKILL)
        wait(lambda: len(workers(first) - {victim}) == 2, 30)
        (second,) = workers(first) - {victim, healthy}
        os.kill(second, signal.SIGKILL)
        assert server.process.wait(20) == 1
    log = (tmp_path / "log.txt").read_text()
    assert "Worker crash loop detected, exiting" in log and "Traceback" not in log

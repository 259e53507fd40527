"""Several workers share connections evenly, however they come, and one that is dead or away gets none."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from faults.wire import connect
from processes import workers
from server import Server, serving
from serving.api.balance import FIELD, FILE, Board

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def two(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(repository_folder, tmp_path_factory.mktemp("server") / "log.txt", "--workers", "2") as server:
        server.wait_for_workers(2)
        yield server


def sockets(pids: list[int]) -> list[int]:
    """Of each process, once no more are opened and closed."""
    while True:
        before = _sockets(pids)
        time.sleep(0.3)
        if _sockets(pids) == before:
            return before


def _sockets(pids: list[int]) -> list[int]:
    links = [list(Path(f"/proc/{pid}/fd").iterdir()) for pid in pids]
    return [sum(link.is_symlink() and os.readlink(link).startswith("socket:") for link in its) for its in links]


def answered(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.sendall(GET)
    for connection in connections:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200"), "it is some worker's now"


@pytest.mark.parametrize("at_once", [False, True])
def test_kept_connections_are_shared_evenly(two: Server, at_once: bool):
    pids = list(workers(two.process.pid))
    before = sockets(pids)
    with ExitStack() as stack:
        if at_once:
            answered([stack.enter_context(connect(two.port)) for _ in range(20)])
        else:
            for _ in range(20):
                answered([stack.enter_context(connect(two.port))])
        more = [now - count for now, count in zip(sockets(pids), before, strict=True)]
    assert sum(more) == 20 and abs(more[0] - more[1]) <= 2, more


def test_a_worker_that_hangs_keeps_nobody_waiting(two: Server):
    """Both have as many as before, so every second connection would be its; the other takes them all."""
    stopped, _ = workers(two.process.pid)
    os.kill(stopped, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            answered([stack.enter_context(connect(two.port)) for _ in range(8)])
    finally:
        os.kill(stopped, signal.SIGCONT)


def places(folder: Path) -> list[int]:
    return memoryview((folder / FILE).read_bytes()).cast("q").tolist()


def test_a_dead_workers_place_and_count_are_nobodys(tmp_path: Path):
    Board.make(tmp_path, 1)
    code = f"from pathlib import Path; from serving.api.balance import Board; Board(Path({str(tmp_path)!r})).set(7)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert places(tmp_path)[1] == 7
    board = Board(tmp_path)
    assert places(tmp_path)[:2] == [os.getpid(), 0]
    board.set(3)
    assert board.lead() == 0, "there is no other"


def test_the_lead_is_over_the_worker_with_fewest(tmp_path: Path):
    Board.make(tmp_path, 2)
    path = tmp_path / FILE
    board = Board(tmp_path)
    board.set(5)
    content = bytearray(path.read_bytes())
    content[2 * FIELD : 6 * FIELD] = b"".join(n.to_bytes(FIELD, "little") for n in (os.getppid(), 2, os.getppid(), 9))
    with path.open("r+b") as file:
        file.write(content)
    assert board.lead() == 3
    board.leave()
    assert places(tmp_path)[0] == 0

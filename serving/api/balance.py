"""Several workers on one listening socket: a new connection goes to the worker that has fewest.

Left to the kernel it goes to whoever wakes up first, and connections that are kept alive stay there: of four, all can
be one worker's while the others have nothing to do.
"""

import asyncio
import fcntl
import logging
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

FILE = "connections"
FIELD = 8  # bytes: of each worker its process id, then how many connections it has
STEP = 0.001  # seconds that a worker leaves a new connection to others for each that it has more than they ...
MOST = 0.005  # ... at most, for they may be busy

logger = logging.getLogger("ganymede")


class Board:
    """How many connections each worker has, in memory that they share. The place of a dead worker is free again."""

    def __init__(self, folder: Path):
        with (folder / FILE).open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self._memory = mmap.mmap(file.fileno(), 0)
            self._places = memoryview(self._memory).cast("q")
            self._mine = next(i for i in range(0, len(self._places), 2) if not _lives(self._places[i]))
            self._places[self._mine + 1] = 0
            self._places[self._mine] = os.getpid()
            fcntl.flock(file, fcntl.LOCK_UN)  # closing it is not enough: the memory has a descriptor of its own

    @staticmethod
    def make(folder: Path, workers: int) -> None:
        """For so many workers, and as many that end while others take their places."""
        (folder / FILE).write_bytes(bytes(2 * workers * 2 * FIELD))

    def set(self, connections: int) -> None:
        self._places[self._mine + 1] = connections

    def lead(self) -> int:
        """How many connections this worker has more than the one with the fewest; 0 where it is that."""
        counts = [self._places[i + 1] for i in range(0, len(self._places), 2) if _lives(self._places[i])]
        return self._places[self._mine + 1] - min(counts)

    def leave(self) -> None:
        """This worker takes no more."""
        self._places[self._mine] = 0


def _lives(pid: int) -> bool:
    if not pid:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Loop(uvloop.Loop):
    """uvloop's, whose servers take connections in `Turns`."""

    async def create_server(self, protocol_factory: Callable[[], asyncio.Protocol], *args: Any, **options: Any) -> Any:
        sock: socket.socket | None = options.get("sock")
        if sock is None:
            return await super().create_server(protocol_factory, *args, **options)
        return Turns(self, protocol_factory, sock, Board(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])))


class Turns:
    """A listening socket in a worker. As asyncio.Server as uvicorn uses it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        factory: Callable[[], asyncio.Protocol],
        listener: socket.socket,
        board: Board,
    ):
        self._loop, self._factory, self._listener, self._board = loop, factory, listener, board
        self._connections = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting: asyncio.TimerHandle | None = None
        self.sockets = [listener]
        listener.setblocking(False)
        loop.add_reader(listener, self._offered)

    def close(self) -> None:
        self._loop.remove_reader(self._listener)
        if self._waiting is not None:
            self._waiting.cancel()
        self._board.leave()

    async def wait_closed(self) -> None:
        pass

    def _offered(self) -> None:
        lead = self._board.lead()
        if lead > 0:
            self._loop.remove_reader(self._listener)
            self._waiting = self._loop.call_later(min(STEP * lead, MOST), self._late)
        else:
            self._take()

    def _late(self) -> None:
        """Nobody else took it, or there is another."""
        self._take()
        self._loop.add_reader(self._listener, self._offered)

    def _take(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another worker was faster; the client is gone
            return
        except OSError as error:  # there are no descriptors left
            logger.error("a connection cannot be taken: %s", error.strerror)
            self._loop.remove_reader(self._listener)
            self._waiting = self._loop.call_later(1, self._late)
            return
        connection.setblocking(False)
        self._count(1)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._protocol, connection))
        self._tasks.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is not None:  # it was gone before it had a protocol
            self._count(-1)

    def _protocol(self) -> asyncio.Protocol:
        protocol = self._factory()
        lost = protocol.connection_lost

        def connection_lost(exc: Exception | None) -> None:
            self._count(-1)
            lost(exc)

        protocol.connection_lost = connection_lost  # uvicorn's factory knows of no other way to hear of it
        return protocol

    def _count(self, change: int) -> None:
        self._connections += change
        self._board.set(self._connections)

"""Several workers: one that dies is replaced, and where that does not help the server ends and says so.

An orchestrator restarts what has ended, and looks at no process inside; so what cannot be mended here must not go on.
"""

import logging
import signal
import time
from socket import socket

from uvicorn.config import Config
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

MOST_DEATHS = 5
SHORT_LIFE_SECONDS = 60  # beyond a slow start; a worker that lived longer was worth its start

logger = logging.getLogger("ganymede")


class Supervisor(Multiprocess):
    """uvicorn's own, which looks twice a second, and starts what died again without end and without a word."""

    def __init__(self, config: Config, sockets: list[socket]):
        super().__init__(config, sockets)
        self.gave_up = False
        self._deaths: dict[int, tuple[float, int]] = {}  # a place -> when its last worker died, and how many in a row

    def keep_subprocess_alive(self) -> None:
        before = list(self.processes)
        super().keep_subprocess_alive()
        for place, (dead, new) in enumerate(zip(before, self.processes, strict=True)):
            if new is not dead:
                self._replaced(place, dead, new)

    def _replaced(self, place: int, dead: Process, new: Process) -> None:
        now = time.monotonic()
        last, row = self._deaths.get(place, (now, 0))
        row = row + 1 if now - last < SHORT_LIFE_SECONDS else 1
        self._deaths[place] = now, row
        logger.error("worker %s %s; worker %s takes its place", dead.pid, _end(dead.exitcode), new.pid)
        if row == MOST_DEATHS:
            logger.error("%d workers in a row died within %d s each: giving up", row, SHORT_LIFE_SECONDS)
            self.gave_up = True
            self.should_exit.set()


def _end(exitcode: int | None) -> str:
    """How a process ended, in words: `exitcode` is that of multiprocessing."""
    if exitcode is None or exitcode >= 0:
        return f"ended with exit code {exitcode}"
    return f"was ended by {signal.Signals(-exitcode).name}"

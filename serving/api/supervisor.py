"""Several workers: one that dies or hangs is replaced, and where that does not help the server ends and says so.

An orchestrator restarts what has ended, and looks at no process inside; so what cannot be mended here must not go on.
"""

import logging
import signal
import time
from socket import socket

from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

ANSWER_SECONDS = 0.1  # that are waited for an answer; twice a second each worker is asked
HANGS_SECONDS = 15  # without one; a worker that merely starts on a busy machine may need 5
MOST_DEATHS = 5
SHORT_LIFE_SECONDS = 60  # beyond a slow start; a worker that lived longer was worth its start

logger = logging.getLogger("ganymede")


class Supervisor(Multiprocess):
    """uvicorn's own starts what died again without end and without a word; and while it waits for one worker's answer,
    for 5 s, it does not see that another died."""

    def __init__(self, config: Config, sockets: list[socket]):
        super().__init__(config, sockets)
        self.gave_up = False
        self._heard: dict[int | None, float] = {}  # a worker's process id -> when it last answered, or was first asked
        self._deaths: dict[int, tuple[float, int]] = {}  # a place -> when its last worker died, and how many in a row

    def keep_subprocess_alive(self) -> None:
        for place, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if worker.process.is_alive() and not self._hangs(worker):
                continue
            worker.kill()
            worker.join()
            if worker.exitcode == STARTUP_FAILURE:  # it has said why, and the next one would fail the same way
                self.should_exit.set()
                return
            self._replace(place, worker)

    def _hangs(self, worker: Process) -> bool:
        now = time.monotonic()
        if _answers(worker):
            self._heard[worker.pid] = now
        return now - self._heard.setdefault(worker.pid, now) > HANGS_SECONDS

    def _replace(self, place: int, dead: Process) -> None:
        self.processes[place] = Process(self.config, self.sockets)
        self.processes[place].start()
        logger.error("worker %s %s; %s takes its place", dead.pid, _end(dead.exitcode), self.processes[place].pid)
        self._heard.pop(dead.pid, None)
        now = time.monotonic()
        last, row = self._deaths.get(place, (now, 0))
        row = row + 1 if now - last < SHORT_LIFE_SECONDS else 1
        self._deaths[place] = now, row
        if row == MOST_DEATHS:
            logger.error("%d workers in a row died within %d s each: giving up", row, SHORT_LIFE_SECONDS)
            self.gave_up = True
            self.should_exit.set()


def _answers(worker: Process) -> bool:
    """Whether it has answered anything that it was asked until now."""
    answered = False
    try:
        worker.parent_conn.send(b"ping")
        while worker.parent_conn.poll(0 if answered else ANSWER_SECONDS):
            worker.parent_conn.recv()
            answered = True
    except (OSError, EOFError):
        pass  # it died in the meantime, which is seen the next time
    return answered


def _end(exitcode: int | None) -> str:
    """How a process ended, in words: `exitcode` is that of multiprocessing."""
    if exitcode is None or exitcode >= 0:
        return f"ended with exit code {exitcode}"
    return f"was ended by {signal.Signals(-exitcode).name}"

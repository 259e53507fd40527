"""Worker processes on this machine, for the local engine and the server engine.

A worker receives one shard at a time through a pipe. A worker that dies is replaced and its shard generated again. When
this process ends for any reason, its pipes are closed, and the workers exit.
"""

import gc
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from serving.bulk.errors import BulkError
from serving.bulk.job import Job, Shard
from serving.bulk.sources import Source
from serving.bulk.statistics import Statistics
from serving.bulk.storage import Store
from serving.bulk.worker import Worker

END_SECONDS = 5  # time limit for workers to exit after SIGTERM
MOST_LOSSES = 3  # workers that may die at one shard before the run ends
# Not fork: threads of ONNX Runtime and of the client do not survive it.
CONTEXT = multiprocessing.get_context("spawn")

MakeSource = Callable[[], Source]  # called in the worker's process; must be picklable


@dataclass
class Hand:
    """Handle of a worker process."""

    process: BaseProcess
    pipe: Connection
    shard: Shard | None = None

    def give(self, shard: Shard) -> None:
        self.shard = shard
        self.pipe.send(shard)


def run(job: Job, shards: Sequence[Shard], store: Store, source: MakeSource, workers: int) -> Generator[Statistics]:
    """Generate all `shards`, yield the statistics of each. Raises BulkError. Closing the generator ends the workers."""
    todo = deque(shards)
    losses: dict[int, int] = {}
    hands: list[Hand] = []
    try:
        hands += [_hire(job, store, source) for _ in range(min(workers, len(todo)))]
        for hand in hands:
            hand.give(todo.popleft())
        while busy := [hand for hand in hands if hand.shard is not None]:
            for pipe in wait([hand.pipe for hand in busy]):
                hand = next(hand for hand in busy if hand.pipe is pipe)
                shard = hand.shard
                assert shard is not None
                try:
                    outcome = hand.pipe.recv()
                except (EOFError, OSError):
                    losses[shard.number] = losses.get(shard.number, 0) + 1
                    if losses[shard.number] >= MOST_LOSSES:
                        raise BulkError(_lost(hand, shard)) from None
                    _end([hand])
                    hands[hands.index(hand)] = hand = _hire(job, store, source)
                    hand.give(shard)
                    continue
                if isinstance(outcome, BulkError):
                    raise outcome
                hand.shard = None
                if todo:
                    hand.give(todo.popleft())
                yield outcome
    finally:
        _end(hands)


def _hire(job: Job, store: Store, source: MakeSource) -> Hand:
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_work, args=(theirs, job, store.url, source), daemon=True)
    # A terminal sends Ctrl-C to all processes. Workers block it from the start; this process ends them. The tracker of
    # multiprocessing is started first, because starting it unblocks the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return Hand(process, ours)


def _end(hands: Sequence[Hand]) -> None:
    """Stop all workers together, because schedulers kill a job after a few seconds."""
    for hand in hands:
        hand.process.terminate()
    deadline = time.monotonic() + END_SECONDS
    try:
        for hand in hands:
            hand.process.join(max(0, deadline - time.monotonic()))
    finally:  # also after a second Ctrl-C
        for hand in hands:
            hand.process.kill()  # a worker that waits for a server may not react to SIGTERM
    for hand in hands:
        hand.process.join()
        hand.pipe.close()


def _work(pipe: Connection, job: Job, url: str, source: MakeSource) -> None:
    """Run a worker: receive shards, send statistics or an error, until the pipe is closed."""
    signal.signal(signal.SIGTERM, _leave)
    made: Any = None
    while True:
        try:
            shard = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            if made is None:
                made = Worker(job, source(), Store(url))
                gc.freeze()  # exclude permanent objects from garbage collection
            pipe.send(made.make(shard))
        except BulkError as error:
            pipe.send(BulkError(str(error)))
        except (BrokenPipeError, ConnectionResetError):
            return


def _leave(number: int, frame: object) -> None:
    """Exit by an exception, so that staging folders are removed."""
    raise SystemExit(128 + number)


def _lost(hand: Hand, shard: Shard) -> str:
    hand.process.join()
    code = hand.process.exitcode or 0
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{MOST_LOSSES} workers died at {shard.name}, the last by {how}; run the same command to resume."

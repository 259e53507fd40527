"""The training loop: moves a `Trainer` to its end, and does periodic work: statistics, snapshots, FID, checkpoints."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.errors import TrainingError
from training.loop import checkpoint
from training.loop.non_finite import check_finite
from training.loop.schedule import phase_at
from training.loop.time_budget import TimeBudget
from training.loop.trainer import GRID, Trainer
from training.monitoring.collapse import Alarm, CollapseDetector
from training.monitoring.statistics import Monitor

TICK_SECONDS = 60.0  # between two lines of statistics, at most and give or take a step
LOOK_SEED = 1  # of the images that are searched for signs of collapse; the grid's is 0
LOOK_IMAGES = 256

Fid = Callable[[np.ndarray], float]  # images (N, H, W, C) uint8 -> their distance to real ones
Line = dict[str, Any]  # a line of statistics


class Interrupted(Exception):
    """A signal asked the run to stop; it has been saved."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Alarmed(TrainingError):
    """The run was to stop on an alarm; it has been saved."""


def run(
    trainer: Trainer,
    folder: Path,
    *,
    tick_kimg: float = 5.0,
    checkpoint_seconds: float = 180.0,
    fid: Fid | None = None,
    time_budget: TimeBudget | None = None,
) -> None:
    """Trains to the end of the schedule, which a time budget moves.

    `checkpoint.pt` is written every few minutes, at the end, and on SIGINT and SIGTERM.
    Statistics are recorded every `tick_kimg`, and every minute where that takes longer.
    Every `monitoring.snapshot_kimg` the averaged generator is kept in `snapshots/` with its grid in `samples/`, and its
    images are searched for signs of collapse. `fid` measures them every `monitoring.fid_kimg`; the snapshot with the
    lowest FID is kept as `snapshots/best.pt`.

    Raises Interrupted or Alarmed once saved, and TrainingDiverged with the last good checkpoint left as it was.
    """
    with _signals() as received:
        loop = _Loop(trainer, folder, fid)
        with closing(loop.monitor) if loop.monitor else nullcontext():
            stopped = _train(loop, received, tick_kimg, checkpoint_seconds, time_budget)
    if stopped and not trainer.finished:
        raise Interrupted(received[0] if received else signal.SIGTERM)  # the signal may have met another process


def _train(
    loop: "_Loop", received: list[int], tick_kimg: float, checkpoint_seconds: float, time_budget: TimeBudget | None
) -> bool:
    """The loop itself -> whether a signal ended it. Each periodic action adds to the line of statistics."""
    trainer, processes = loop.trainer, loop.trainer.processes
    monitoring = trainer.recipe.monitoring
    periodic: list[tuple[float, Callable[[Line], None]]] = [  # (every so many kimg, action), in the order of actions
        (monitoring.fid_kimg, loop.measure_fid),
        (monitoring.snapshot_kimg, loop.take_snapshot),
        (monitoring.fid_kimg, loop.take_snapshot),
        (tick_kimg, loop.record),
    ]

    def due(every_kimg: float) -> bool:
        """Whether the last step passed a multiple of `every_kimg`, or was the last of the run."""
        every = round(every_kimg * 1000)
        before = trainer.images_seen - trainer.images_per_step
        return every > 0 and (trainer.finished or trainer.images_seen // every > before // every)

    means = _Means()
    began = saved = time.perf_counter()
    images_before = trainer.images_seen
    stopped, done = False, trainer.finished
    while not done:
        means.add(trainer.step())
        stopped = processes.any(bool(received))  # read once: a signal from here on waits for the next step
        slow = time.perf_counter() - began > TICK_SECONDS
        if not (stopped or any(due(every) for every, _ in periodic) or processes.any(slow)):
            continue

        statistics = means.averaged_over(trainer)
        check_finite(trainer, statistics)
        now = time.perf_counter()
        trainer.add_seconds(now - began)
        speed = (trainer.images_seen - images_before) / 1000 / (now - began)
        if time_budget:
            loop.move_end(time_budget, speed)
        line = {"kimg": trainer.kimg, "seconds": round(trainer.seconds, 2), "kimg_per_second": speed, **statistics}
        done = trainer.finished or stopped
        actions = [action for every, action in periodic if due(every)]
        for action in dict.fromkeys([*actions, loop.record]):  # each once; a slow or stopped run records, too
            action(line)

        alarmed = processes.any(loop.alarm is not None and monitoring.on_alarm == "stop")
        if processes.any(done or alarmed or now - saved > checkpoint_seconds):
            loop.save()
            saved = time.perf_counter()
        if alarmed and not done:
            raise Alarmed(f"stopped at {trainer.kimg:.1f} kimg: {loop.alarm or 'an alarm of the first process'}")
        means = _Means()
        began, images_before = time.perf_counter(), trainer.images_seen
    return stopped


class _Loop:
    """The periodic actions. The first process does them all; the others take part in saving and moving the end."""

    def __init__(self, trainer: Trainer, folder: Path, fid: Fid | None) -> None:
        self.trainer, self.folder, self.fid = trainer, folder, fid
        self.alarms: list[Alarm] = []  # raised and not recorded yet
        self.alarm: str | None = None  # the reason of the first that the last line has recorded
        real = trainer.dataset
        self.collapse = CollapseDetector(
            real.images,
            real.labels,
            len(real.classes) if real.classes else None,
            trainer.recipe.monitoring.patience,
            saturates=trainer.recipe.loss != "wasserstein",
        )
        path = folder / "checkpoint.pt"
        if trainer.steps and path.exists():
            self.collapse.load_state_dict(checkpoint.read_run(path)[1]["collapse"])
        first = trainer.processes.first
        self.monitor = Monitor(folder, trainer.schedule.total_kimg, trainer.kimg) if first else None

    def measure_fid(self, line: Line) -> None:
        if self.monitor and self.fid:
            line["fid"] = self.fid(self.trainer.sample_images(self.trainer.recipe.monitoring.fid_pictures, LOOK_SEED))

    def take_snapshot(self, line: Line) -> None:
        """Searches for signs of collapse, draws the grid, and keeps the last `keep_snapshots` and the best."""
        if self.monitor is None:
            return
        trainer, fid = self.trainer, line.get("fid")
        images = torch.from_numpy(trainer.sample_images(LOOK_IMAGES, LOOK_SEED)).permute(0, 3, 1, 2)
        measures, self.alarms = self.collapse.look(images, line, fid)
        line |= measures
        self.monitor.grid(trainer.sample_images(GRID), trainer.kimg, columns=10 if trainer.classes else 8)
        folder, snapshot = self.folder / "snapshots", checkpoint.snapshot(trainer)
        checkpoint.save(folder / f"{trainer.kimg:08.1f}.pt", snapshot)
        if fid is not None and fid == self.collapse.best_fid:
            checkpoint.save(folder / "best.pt", snapshot)
        numbered = sorted(path for path in folder.glob("*.pt") if path.stem != "best")
        for path in numbered[: -trainer.recipe.monitoring.keep_snapshots]:
            path.unlink()

    def record(self, line: Line) -> None:
        if self.monitor is None:
            return
        phase = phase_at(self.trainer.recipe, self.trainer.images_seen)
        self.monitor.tick(line | ({"resolution": phase.resolution, "alpha": phase.alpha} if phase else {}))
        for alarm in self.alarms:
            self.monitor.alarm(self.trainer.kimg, alarm)
        self.alarm = self.alarms[0].reason if self.alarms else None
        self.alarms = []

    def move_end(self, time_budget: TimeBudget, speed: float) -> None:
        """Moves the end to where the time budget has it, in every process."""
        trainer = self.trainer
        schedule = time_budget.end(trainer.schedule, trainer.kimg, trainer.seconds, speed)
        if self.monitor and schedule != trainer.schedule:
            self.monitor.move_end(trainer.recipe, schedule._asdict())
        trainer.move_end(trainer.processes.same(schedule))

    def save(self) -> None:
        """Writes the checkpoint. Every process must call it."""
        state = checkpoint.capture(self.trainer)
        if self.monitor:
            checkpoint.save(self.folder / "checkpoint.pt", state | {"collapse": self.collapse.state_dict()})


class _Means:
    """Means of the statistics of steps; a statistic that only some steps have is averaged over those."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, statistics: dict[str, Tensor]) -> None:
        for name, value in statistics.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def averaged_over(self, trainer: Trainer) -> Line:
        """Return the means over all processes. Note: this is a CPU-GPU sync point."""
        means = trainer.processes.average(torch.stack([self.sums[name] / self.counts[name] for name in self.sums]))
        return dict(zip(self.sums, means.tolist(), strict=True))


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The SIGINTs and SIGTERMs received so far, in place of their handlers."""
    received: list[int] = []

    def receive(signum: int, _: FrameType | None) -> None:
        received.append(signum)

    previous = {s: signal.signal(s, receive) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for s, handler in previous.items():
            signal.signal(s, handler)

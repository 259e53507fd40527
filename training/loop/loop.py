"""The training loop: moves a `Trainer` to the end of its recipe, shows how it goes, saves, and stops when it should."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.errors import TrainingError
from training.loop import checkpoint, run_state
from training.loop.non_finite import check_finite
from training.loop.schedule import phase_at
from training.loop.time_budget import Pace
from training.loop.trainer import GRID, Trainer
from training.monitoring.collapse import Watch
from training.monitoring.statistics import Monitor

TICK_SECONDS = 60.0  # between two lines of statistics, at most and give or take a step
WATCH_SEED = 1  # of the pictures looked at for collapse; the grid's is 0
WATCH_PICTURES = 256

Fid = Callable[[np.ndarray], float]  # pictures (N, H, W, C) uint8 -> their distance to real ones


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
    pace: Pace | None = None,
) -> None:
    """Trains to the end of the recipe, or to the one that `pace` gives it.

    `checkpoint.pt` is written every few minutes, at the end, and on SIGINT and SIGTERM.
    Statistics are recorded every `tick_kimg`, and every minute where that takes longer.
    Every `monitoring.snapshot_kimg` the averaged generator is kept in `snapshots/` with its grid in `samples/`, and its
    pictures are looked at for signs of collapse. `fid` measures them every `monitoring.fid_kimg`; the snapshot that it
    finds best is kept as `snapshots/best.pt`.

    Raises Interrupted or Alarmed once saved, and TrainingDiverged with the last good checkpoint left as it was.
    """
    received: list[int] = []

    def stop(signum: int, _: FrameType | None) -> None:
        received.append(signum)

    previous = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        stopped = _Loop(trainer, folder, tick_kimg, checkpoint_seconds, fid, pace).run(received)
    finally:
        for s, handler in previous.items():
            signal.signal(s, handler)
    if stopped and not trainer.finished:
        raise Interrupted(received[0] if received else signal.SIGTERM)  # the signal may have met another process


class _Loop:
    def __init__(
        self,
        trainer: Trainer,
        folder: Path,
        tick_kimg: float,
        checkpoint_seconds: float,
        fid: Fid | None,
        pace: Pace | None,
    ) -> None:
        self.trainer, self.folder, self.fid, self.pace = trainer, folder, fid, pace
        self.tick_kimg, self.checkpoint_seconds = tick_kimg, checkpoint_seconds
        self.first = trainer.processes.first
        real = trainer.dataset
        self.watch = Watch(
            real.images,
            real.labels,
            len(real.classes) if real.classes else None,
            trainer.recipe.monitoring.patience,
            saturates=trainer.recipe.loss != "wasserstein",
        )
        path = folder / "checkpoint.pt"
        if trainer.steps and path.exists():
            self.watch.load_state_dict(checkpoint.load(path)["watch"])
        self.monitor = Monitor(folder, trainer.recipe.total_kimg, trainer.kimg) if self.first else None

    def run(self, received: list[int]) -> bool:
        """-> whether a signal ended it."""
        try:
            return self._steps(received)
        finally:
            if self.monitor:
                self.monitor.close()

    def _steps(self, received: list[int]) -> bool:
        trainer, processes = self.trainer, self.trainer.processes
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        tick_began, tick_images = time.perf_counter(), trainer.images_seen
        saved = time.perf_counter()
        stopped, done = False, trainer.finished
        while not done:
            for name, value in trainer.step().items():
                sums[name] = sums[name] + value if name in sums else value
                counts[name] = counts.get(name, 0) + 1
            stopped = processes.any(bool(received))  # read once: a signal from here on waits for the next step
            done = trainer.finished or stopped
            slow = time.perf_counter() - tick_began > TICK_SECONDS
            if not (done or self._due() or processes.any(slow)):
                continue

            means = processes.average(torch.stack([sums[name] / counts[name] for name in sums]))
            statistics = dict(zip(sums, means.tolist(), strict=True))
            check_finite(trainer, statistics)
            now = time.perf_counter()
            trainer.seconds += now - tick_began
            speed = (trainer.images_seen - tick_images) / 1000 / (now - tick_began)
            self._move_end(speed)
            done = trainer.finished or stopped
            phase = phase_at(trainer.recipe, trainer.images_seen)
            line = {
                "kimg": trainer.kimg,
                "seconds": round(trainer.seconds, 2),
                "kimg_per_second": speed,
                **statistics,
                **({"resolution": phase.resolution, "alpha": phase.alpha} if phase else {}),
            }
            reason = self._look(line)
            alarmed = processes.any(reason is not None and trainer.recipe.monitoring.on_alarm == "stop")
            sums, counts = {}, {}
            if processes.any(done or alarmed or now - saved > self.checkpoint_seconds):
                self._save()
                saved = time.perf_counter()
            if alarmed and not done:
                raise Alarmed(f"stopped at {trainer.kimg:.1f} kimg: {reason or 'an alarm of the first process'}")
            tick_began, tick_images = time.perf_counter(), trainer.images_seen
        return stopped

    def _move_end(self, speed: float) -> None:
        """To where the pace has it, in every process."""
        trainer = self.trainer
        if self.pace is None:
            return
        recipe = self.pace.end(trainer.recipe, trainer.kimg, trainer.seconds, speed)
        if self.monitor and recipe != trainer.recipe:
            self.monitor.move_end(recipe)
        trainer.recipe = trainer.processes.same(recipe)

    def _look(self, line: dict[str, Any]) -> str | None:
        """Records a line of statistics and, where they are due, a snapshot and what its pictures show -> an alarm.

        A signal makes nothing due: the run is to be saved at once, and to go on as if there had been none.
        """
        if self.monitor is None:
            return None
        trainer, monitoring = self.trainer, self.trainer.recipe.monitoring
        measures_fid = self.fid is not None and (trainer.finished or self._passed(monitoring.fid_kimg))
        alarms = []
        if trainer.finished or measures_fid or self._passed(monitoring.snapshot_kimg):
            count = max(WATCH_PICTURES, monitoring.fid_pictures if measures_fid else 0)
            pictures = trainer.pictures(count, WATCH_SEED)
            distance = self.fid(pictures[: monitoring.fid_pictures]) if self.fid and measures_fid else None
            looked_at = torch.from_numpy(pictures[:WATCH_PICTURES]).permute(0, 3, 1, 2)
            measures, alarms = self.watch.look(looked_at, line, distance)
            line |= measures
            self.monitor.grid(trainer.pictures(GRID), trainer.kimg, columns=10 if trainer.classes else 8)
            self._keep(best=distance is not None and distance == self.watch.best_fid)
        self.monitor.tick(line)
        for alarm in alarms:
            self.monitor.alarm(trainer.kimg, alarm)
        return alarms[0].reason if alarms else None

    def _keep(self, best: bool) -> None:
        """Writes a snapshot; removes all but the last `keep_snapshots` and the best."""
        folder, snapshot = self.folder / "snapshots", run_state.snapshot(self.trainer)
        checkpoint.save(folder / f"{self.trainer.kimg:08.1f}.pt", snapshot)
        if best:
            checkpoint.save(folder / "best.pt", snapshot)
        numbered = sorted(path for path in folder.glob("*.pt") if path.stem != "best")
        for path in numbered[: -self.trainer.recipe.monitoring.keep_snapshots]:
            path.unlink()

    def _save(self) -> None:
        state = run_state.capture(self.trainer)
        if self.first:
            checkpoint.save(self.folder / "checkpoint.pt", state | {"watch": self.watch.state_dict()})

    def _due(self) -> bool:
        """Whether a line of statistics is, or something that comes with one."""
        monitoring = self.trainer.recipe.monitoring
        return any(map(self._passed, (self.tick_kimg, monitoring.snapshot_kimg, monitoring.fid_kimg)))

    def _passed(self, every_kimg: float) -> bool:
        """Whether the last step went over a multiple of `every_kimg`."""
        every = round(every_kimg * 1000)
        before = self.trainer.images_seen - self.trainer.images_per_step
        return every > 0 and self.trainer.images_seen // every > before // every

"""What a run shows of itself while it goes on: its folder, statistics, grids of fixed latents and alarms."""

import fcntl
import json
import os
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from serving.engine import images
from training import files
from training.errors import TrainingError
from training.monitoring.collapse import Alarm
from training.monitoring.timelapse import timelapse
from training.recipe import Recipe


def new_run(runs: Path, recipe: Recipe) -> Path:
    """Makes `runs/NNNNN-<id>`, numbered after the last one."""
    check_writable(runs)
    while True:
        numbers = [int(match[0]) for path in runs.iterdir() if (match := re.match(r"\d{5}(?=-)", path.name))]
        folder = runs / f"{max(numbers, default=-1) + 1:05d}-{recipe.id}"
        with suppress(FileExistsError):  # another run was quicker
            folder.mkdir()
            break
    (folder / "samples").mkdir()
    (folder / "snapshots").mkdir()
    write_options(folder, recipe)
    return folder


def check_writable(folder: Path) -> None:
    """Makes a folder, and a file in it that goes at once. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    TemporaryFile(dir=folder).close()


def claim(run: Path) -> TextIO:
    """Holds a run while the file that is returned is open, and removes what a kill left half-written.

    Raises TrainingError where another process has it, OSError where it cannot be written.
    """
    lock = (run / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        pid = lock.read().strip()
        lock.close()
        raise TrainingError(f"{run} is in use by process {pid}: wait for its end, or stop it.") from None
    except OSError:  # a file system without locks
        pass
    for path in run.rglob("*.partial"):
        path.unlink()
    lock.truncate(0)
    with suppress(OSError):  # a full disk: what is written next says so
        lock.write(f"{os.getpid()}\n")
        lock.flush()
    return lock


def write_options(folder: Path, recipe: Recipe, schedule: dict[str, float] | None = None) -> None:
    """Writes options.json into the folder of a run: its recipe and, where the end has moved, its schedule."""
    options = recipe.as_dict() | ({"schedule": schedule} if schedule else {})
    files.write(folder / "options.json", json.dumps(options, indent=2) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, none where there is no file. A last line that a kill cut off is left out."""
    lines = path.read_text().split("\n") if path.exists() else []
    return [json.loads(line) for line in lines[:-1]]  # what follows the last newline is empty, or cut off


class Monitor:
    """Writes what a run shows of itself into its folder:

    stats.jsonl, alarms.jsonl    a line a tick, a line an alarm
    samples/<kimg>.png           the grids, and samples.gif of them all at the end
    tensorboard/                 the same as events; their step is the number of images seen

    A terminal shows a moving bar; in a file each tick is a line. A run that goes on at `kimg` first drops what it is
    about to live again.
    """

    def __init__(self, folder: Path, total_kimg: float, kimg: float):
        self.folder = folder
        self.stats, self.alarms, self.samples = folder / "stats.jsonl", folder / "alarms.jsonl", folder / "samples"
        self._forget_after(kimg)
        self.events = _events(folder / "tensorboard", kimg)
        self._excepthook, threading.excepthook = threading.excepthook, _writer_failed
        self.bar = tqdm(
            total=total_kimg,
            initial=kimg,
            unit="kimg",
            disable=not sys.stderr.isatty(),
            bar_format="{percentage:3.0f}%|{bar:20}| {n:.1f}/{total:g} kimg [{elapsed}<{remaining}, {postfix}]",
        )

    def move_end(self, recipe: Recipe, schedule: dict[str, float]) -> None:
        """Records another end of the run."""
        write_options(self.folder, recipe, schedule)
        self.bar.total = schedule["total_kimg"]

    def tick(self, values: dict[str, Any]) -> None:
        """Records one line of statistics; `values` must have `kimg` and `kimg_per_second`."""
        _append(self.stats, values)
        if self.events:
            for name in values.keys() - {"kimg"}:
                self.events.add_scalar(name, values[name], _step(values["kimg"]))
            self.events.flush()  # else a page that is looked at meanwhile is up to two minutes old
        names = {
            "kimg_per_second": "kimg/s",
            "discriminator_loss": "D loss",
            "generator_loss": "G loss",
            "real_probability": "D(real)",
            "fake_probability": "D(fake)",
            "fid": "FID",
            "resolution": "px",
        }
        shown = ", ".join(f"{label} {values[name]:.3g}" for name, label in names.items() if name in values)
        self.bar.set_postfix_str(shown, refresh=False)
        self.bar.update(values["kimg"] - self.bar.n)
        if self.bar.disable:
            left = max(0.0, self.bar.total - values["kimg"]) / max(values["kimg_per_second"], 1e-9)
            print(f"{values['kimg']:.1f}/{self.bar.total:g} kimg, {left / 60:.0f} min left, {shown}", flush=True)

    def grid(self, pictures: np.ndarray, kimg: float, columns: int) -> Path:
        """images (N, H, W, C) uint8 -> samples/<kimg>.png."""
        grid = images.grid(pictures, columns)
        path = self.samples / _grid_name(kimg)
        files.write_png(path, grid)
        if self.events:
            self.events.add_image("samples", grid, _step(kimg), dataformats="HWC")
        return path

    def alarm(self, kimg: float, alarm: Alarm) -> None:
        """Records an alarm and says it."""
        _append(self.alarms, {"kimg": kimg, "name": alarm.name, "reason": alarm.reason})
        if self.events:
            self.events.add_text("alarms", alarm.reason, _step(kimg))
        self.bar.write(f"ALARM at {kimg:.1f} kimg ({alarm.name.replace('_', ' ')}): {alarm.reason}")
        sys.stdout.flush()

    def close(self) -> None:
        """Ends the bar and the events, and writes the time-lapse."""
        self.bar.close()
        try:
            if self.events:
                self.events.close()
        finally:
            threading.excepthook = self._excepthook
        if grids := sorted(self.samples.glob("*.png")):
            files.write(self.folder / "samples.gif", timelapse(grids))

    def _forget_after(self, kimg: float) -> None:
        for path in (self.stats, self.alarms):
            if path.exists():
                kept = [line for line in read_lines(path) if line["kimg"] <= kimg]
                files.write(path, "".join(json.dumps(line) + "\n" for line in kept))
        for path in self.samples.glob("*.png"):
            if path.name > _grid_name(kimg):
                path.unlink()


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _grid_name(kimg: float) -> str:
    """Sorts as kimg does."""
    return f"{kimg:08.1f}.png"


def _step(kimg: float) -> int:
    return round(kimg * 1000)


def _events(folder: Path, kimg: float) -> Any:
    """TensorBoard's writer, or None, said once, where the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        print("no events for TensorBoard are written: the package `tensorboard` is not installed.", flush=True)
        return None
    # `purge_step` makes TensorBoard forget the events of a time that is lived again.
    return SummaryWriter(folder, purge_step=_step(kimg) + 1 if kimg else None)


def _writer_failed(failure: threading.ExceptHookArgs) -> None:
    """Passes over what a disk refused to TensorBoard's own thread: its next call raises that again."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)

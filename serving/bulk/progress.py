"""Progress bar of a run, and formatting of sizes and durations."""

import sys
from typing import TextIO

from tqdm import tqdm

from serving.bulk.job import Job
from serving.bulk.run import Progress
from serving.bulk.statistics import Statistics


class Bar(Progress):
    """Progress bar with images done, images/s, time left and bytes written."""

    def __init__(self, stream: TextIO = sys.stderr):
        self._stream = stream
        self._bar: tqdm | None = None
        self._bytes = 0

    def begin(self, job: Job, images: int, shards: int) -> None:
        # Without a terminal, update every 10 s, because a log keeps every line.
        interval = 0.5 if self._stream.isatty() else 10
        self._bar = tqdm(
            total=images, unit="img", unit_scale=True, file=self._stream, mininterval=interval, maxinterval=interval
        )

    def shard(self, statistics: Statistics) -> None:
        if self._bar is not None:
            self._bytes += statistics.size
            self._bar.set_postfix_str(size(self._bytes), refresh=False)
            self._bar.update(statistics.shard.n)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()


def size(count: float) -> str:
    """Format bytes: "2.1 GB"."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} PB"


def duration(seconds: float) -> str:
    """Format seconds: "2 h 40 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours / 24:.1f} days"

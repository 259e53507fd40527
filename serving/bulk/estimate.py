"""Estimate the size and duration of a run from a short measurement. No output is kept."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from serving.bulk import packing
from serving.bulk.job import Job, Shard
from serving.bulk.sources import BATCH, Source
from serving.bulk.storage import digest

SECONDS = 2.0
MOST = 64 * BATCH


@dataclass(frozen=True)
class Estimate:
    shards: int
    images: int
    bytes: int  # of all shards
    images_per_second: float  # of one worker
    measured: int  # images generated for the measurement


def estimate(job: Job, source: Source) -> Estimate:
    """Generate and pack the first images of the job for about two seconds on this thread."""
    _measure(job, source, min(job.n, BATCH))  # the first batch also loads libraries
    made, written, seconds = _measure(job, source, min(job.n, MOST))
    return Estimate(len(job.shards()), job.n, round(written / made * job.n), made / seconds, made)


def _measure(job: Job, source: Source, n: int) -> tuple[int, int, float]:
    """Return the number of images, bytes and seconds."""
    shard = Shard(0, job.start, n)
    with tempfile.TemporaryDirectory(prefix="ganymede-") as name:
        folder, made, began = Path(name), 0, time.perf_counter()
        writer = packing.writer(job, shard, folder)
        for batch in source.batches(job, shard):
            writer.add(batch.start, batch.images, batch.labels)
            made += len(batch.images)
            if time.perf_counter() - began > SECONDS:
                break
        writer.close()
        seconds = time.perf_counter() - began
        return made, sum(digest(folder / name).bytes for name in writer.files), seconds

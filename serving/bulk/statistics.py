"""Exact, reproducible statistics of a complete shard and of the whole dataset."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from serving.bulk.job import Job, Shard
from serving.bulk.storage import OWN, Digest


@dataclass
class Tally:
    """Running sums over images."""

    channels: int
    images: int = 0
    pixels: int = 0  # of one channel
    sums: list[int] = field(default_factory=list)  # of each channel
    squares: list[int] = field(default_factory=list)
    labels: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sums = self.sums or [0] * self.channels
        self.squares = self.squares or [0] * self.channels

    def add(self, images: np.ndarray, labels: Sequence[int] | None) -> None:
        """Add images (N, H, W, C) uint8."""
        self.images += len(images)
        self.pixels += images[..., 0].size
        for channel in range(self.channels):
            values = images[..., channel]
            self.sums[channel] += int(values.sum(dtype=np.uint64))
            self.squares[channel] += int(np.square(values, dtype=np.uint16).sum(dtype=np.uint64))
        for label in labels or ():
            self.labels[label] = self.labels.get(label, 0) + 1

    def join(self, other: "Tally") -> None:
        self.images += other.images
        self.pixels += other.pixels
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        self.squares = [a + b for a, b in zip(self.squares, other.squares, strict=True)]
        for label, count in other.labels.items():
            self.labels[label] = self.labels.get(label, 0) + count

    def summary(self) -> dict[str, Any]:
        """Return mean and standard deviation of each channel, 0 to 255, and the number of images of each class."""
        means = [total / self.pixels for total in self.sums]
        spread = [
            math.sqrt(max(0, square * self.pixels - total**2)) / self.pixels
            for total, square in zip(self.sums, self.squares, strict=True)
        ]
        return {
            "mean": [round(value, 6) for value in means],
            "std": [round(value, 6) for value in spread],
            "label_counts": {str(label): self.labels[label] for label in sorted(self.labels)} or None,
        }


@dataclass(frozen=True)
class Statistics:
    """Statistics of a complete shard. They are written after the shard's files, so their presence marks it complete."""

    job: str  # sha256 of the settings on the machine that generated it
    shard: Shard
    files: dict[str, Digest]
    tally: Tally

    @property
    def size(self) -> int:
        """Total size of the files in bytes."""
        return sum(digest.bytes for digest in self.files.values())

    @staticmethod
    def name(shard: Shard) -> str:
        return f"{OWN}/shards/{shard.name}.json"

    def entry(self) -> dict[str, Any]:
        """Return the entry of the manifest."""
        files = [{"file": name, **digest._asdict()} for name, digest in self.files.items()]
        return {"shard": self.shard.number, "start": self.shard.start, "n": self.shard.n, "files": files}

    def document(self) -> bytes:
        tally = asdict(self.tally)
        labels = {str(label): count for label, count in sorted(self.tally.labels.items())}
        return _json({"job": self.job} | self.entry() | self.tally.summary() | {"tally": tally | {"labels": labels}})

    @classmethod
    def parse(cls, document: bytes) -> "Statistics | None":
        """Parse a document. Return None if it is damaged."""
        try:
            found = json.loads(document)
            files = {entry["file"]: Digest(int(entry["bytes"]), str(entry["sha256"])) for entry in found["files"]}
            tally = found["tally"] | {"labels": {int(k): int(v) for k, v in found["tally"]["labels"].items()}}
            return cls(found["job"], Shard(found["shard"], found["start"], found["n"]), files, Tally(**tally))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def manifest(job: Job, shards: Sequence[Statistics]) -> bytes:
    """Return the manifest of a complete dataset. `shards`: all shards in order."""
    total = Tally(job.subject.channels)
    for statistics in shards:
        total.join(statistics.tally)
    return _json(
        job.settings()
        | {
            "images": total.images,
            "bytes": sum(statistics.size for statistics in shards),
            "addresses": {"seed": job.seed, "first": job.start, "last": job.start + job.n - 1},
        }
        | total.summary()
        | {"classes": job.subject.classes and list(job.subject.classes)}
        | {"shards": [statistics.entry() for statistics in shards]}
    )


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()

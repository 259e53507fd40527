"""Job: all settings that determine the bytes of the shards.

Engine, number of workers and order of generation are not part of a job, so a shard is the same file in every run.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

from serving import __version__
from serving.bulk.errors import BulkError
from serving.bulk.labels import LabelRule, label_rule
from serving.engine.directions import Edit
from serving.engine.latents import ADDRESS_LIMIT, Source, check_address

FORMATS = ("webdataset", "parquet", "npy", "files")
IMAGES = ("png", "webp")
SHARD_SIZE = 10_000
MAX_SHARDS = 1_000_000  # limited by the digits in file names; all statistics are held in memory
MAX_EDITS, MAX_STRENGTH = 8, 5.0  # same limits as the API


@dataclass(frozen=True)
class Subject:
    """Properties of the model that a job needs, from a repository or a server."""

    id: str
    sha256: str  # of its files
    height: int
    width: int
    channels: int
    classes: tuple[str, ...] | None
    styled: bool
    latents: Source = "philox"
    directions: tuple[str, ...] = ()  # of a style model


@dataclass(frozen=True)
class Shard:
    """The addresses (seed, start) to (seed, start + n - 1) of a job."""

    number: int
    start: int
    n: int

    @property
    def name(self) -> str:
        return f"shard-{self.number:06}"


@dataclass(frozen=True)
class Job:
    subject: Subject
    seed: int
    start: int
    n: int
    shard_size: int
    format: str  # of FORMATS
    image: str | None  # of IMAGES; None for npy
    labels: LabelRule | None
    truncation: float | None
    edits: tuple[Edit, ...] = ()

    def shard(self, number: int) -> Shard:
        before = number * self.shard_size
        return Shard(number, self.start + before, min(self.shard_size, self.n - before))

    def shards(self) -> list[Shard]:
        return [self.shard(number) for number in range(-(-self.n // self.shard_size))]

    def key(self, index: int) -> str:
        """Return the name of the image at `index`. Names sort in the order of the indices."""
        return f"{index:0{self._digits}}"

    @cached_property
    def _digits(self) -> int:
        return max(12, len(str(self.start + self.n - 1)))

    def settings(self) -> dict[str, Any]:
        """Return the settings stored in the directory. Other settings would give other bytes."""
        return {
            "model": self.subject.id,
            "model_sha256": self.subject.sha256,
            "seed": self.seed,
            "start": self.start,
            "n": self.n,
            "shard_size": self.shard_size,
            "format": self.format,
            "image": self.image,
            "labels": None if self.labels is None else self.labels.settings(),
            "truncation": self.truncation,
            **({"edits": [str(edit) for edit in self.edits]} if self.edits else {}),
            "versions": {"ganymede": __version__} | self._encoders(),
        }

    @property
    def sha256(self) -> str:
        """SHA-256 of the settings. It identifies the job of a shard."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()

    def _encoders(self) -> dict[str, str]:
        """Return the versions of the encoding libraries. Other versions may give other bytes."""
        packages = {"png": ["zlib-ng"], "webp": ["pillow"]}.get(self.image or "", []) + (
            ["pyarrow"] if self.format == "parquet" else []
        )
        return {name: version(name) for name in packages}


def plan(
    subject: Subject,
    *,
    n: int,
    seed: int,
    start: int = 0,
    shard_size: int = SHARD_SIZE,
    format: str = "webdataset",
    image: str | None = None,
    labels: str | None = None,
    truncation: float | None = None,
    edits: Sequence[Edit] = (),
) -> Job:
    """Return a validated job. `image` defaults to png. Raises BulkError if a value is invalid."""
    for name, value, low, high in (
        ("n", n, 1, ADDRESS_LIMIT),
        ("seed", seed, 0, ADDRESS_LIMIT - 1),
        ("start", start, 0, ADDRESS_LIMIT - n),
        ("shard_size", shard_size, 1, 10**9),
    ):
        if not low <= value <= high:
            raise BulkError(f"`{name}` (={value}) must be between {low} and {high}.")
    if error := check_address(subject.latents, seed, start + n - 1):
        raise BulkError(error[1])
    if n > MAX_SHARDS * shard_size:
        raise BulkError(
            f"`shard_size` (={shard_size}) gives more than {MAX_SHARDS:,} shards for {n:,} images; use a larger value."
        )
    _one_of("format", format, FORMATS)
    if format == "npy":
        if image is not None:
            raise BulkError(f"`image` (={image}) is for the other formats; npy has uncompressed pixels.")
    else:
        image = image or "png"
        _one_of("image", image, IMAGES)
    if truncation is not None:
        if not subject.styled:
            raise BulkError(f"`truncation` (={truncation}) is for style models; {subject.id} is not one.")
        if not 0 <= truncation <= 1:
            raise BulkError(f"`truncation` (={truncation}) must be between 0 and 1.")
    for edit in edits:
        if edit.direction not in subject.directions:
            known = ", ".join(subject.directions) or f"none: {subject.id} has no directions"
            raise BulkError(f"`edit` (={edit}) must be a step along a direction of the model; there are {known}.")
        if not -MAX_STRENGTH <= edit.strength <= MAX_STRENGTH:
            raise BulkError(f"`edit` (={edit}) must have a strength between -{MAX_STRENGTH:g} and {MAX_STRENGTH:g}.")
    if len(edits) > MAX_EDITS:
        raise BulkError(f"`edit` is given {len(edits)} times; at most {MAX_EDITS} are allowed.")
    rule = label_rule(labels, subject.id, subject.classes)
    return Job(subject, seed, start, n, shard_size, format, image, rule, truncation, tuple(edits))


def _one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise BulkError(f"`{name}` (={value}) must be one of {', '.join(choices)}.")

"""What is made: everything that the bytes of the shards depend on, and nothing else.

Engines, workers and the order of things are no part of a job, so a shard is the same file whoever made it.
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
MAX_SHARDS = 1_000_000  # the digits of their names; their statistics are all held in memory
MAX_EDITS, MAX_STRENGTH = 8, 5.0  # as a server has them


@dataclass(frozen=True)
class Subject:
    """What a job must know of its model; a repository says it, and so does a server."""

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
        """The name of the picture at `index`. Names sort as the job's indices do, for files are read by name."""
        return f"{index:0{self._digits}}"

    @cached_property
    def _digits(self) -> int:
        return max(12, len(str(self.start + self.n - 1)))

    def settings(self) -> dict[str, Any]:
        """As they stand in the directory: what differs here would make other bytes."""
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
        """Of its settings. Shards say by it whose they are."""
        return hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()

    def _encoders(self) -> dict[str, str]:
        """The libraries that packed the pictures: other versions may pack them into other bytes."""
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
    """`image` is png unless given. Raises BulkError where the model or the range cannot have what is asked."""
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
            f"`shard_size` (={shard_size}) makes more than {MAX_SHARDS:,} shards of {n:,}; give a larger one."
        )
    _one_of("format", format, FORMATS)
    if format == "npy":
        if image is not None:
            raise BulkError(f"`image` (={image}) is for the other formats; npy holds bare pixels.")
    else:
        image = image or "png"
        _one_of("image", image, IMAGES)
    if truncation is not None:
        if not subject.styled:
            raise BulkError(f"`truncation` (={truncation}) is for style models; {subject.id} is none.")
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

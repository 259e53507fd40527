"""Pictures of a shard -> its files, in each format. The same pictures give the same bytes, whoever packs them.

Writers take pictures in batches of any length, so that a shard is never whole in memory.
"""

import json
import tarfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from serving.bulk.job import Job, Shard
from serving.engine import images
from serving.engine.png import pngs

BLOCK = 512  # of a tar
ROW_GROUP = 1024  # rows of Parquet that are packed together, whatever the batches were


class Writer(Protocol):
    files: list[str]  # names that will lie in the folder: files, or one folder of files

    def add(self, start: int, pictures: np.ndarray, labels: Sequence[int] | None) -> None:
        """The next pictures (N, H, W, C) uint8, at indices `start` to `start + N - 1`."""
        ...

    def close(self) -> None:
        """All were added, and the files are whole. A writer that is not closed leaves what is no shard."""
        ...


def writer(job: Job, shard: Shard, folder: Path) -> Writer:
    """Writes the files of `shard` into `folder`, under their own names."""
    kinds = {"webdataset": TarWriter, "parquet": ParquetWriter, "npy": NpyWriter, "files": FilesWriter}
    return kinds[job.format](job, shard, folder)


class TarWriter:
    """WebDataset: for each picture `INDEX.png` (or .webp) and `INDEX.json`, in order of index."""

    def __init__(self, job: Job, shard: Shard, folder: Path):
        self.files = [f"{shard.name}.tar"]
        self._job = job
        self._facts = Facts(job)
        self._stream = (folder / self.files[0]).open("wb")
        # tarfile itself takes 20 µs a member, a tenth of what a small model takes a picture: its header is a template
        # with gaps for the name, the size and the checksum, which counts itself as spaces.
        template = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
        self._owner, self._time, self._rest = template[100:124], template[135:148], template[156:]
        self._picture = f".{job.image}".encode()
        same = sum(self._owner + self._time + b" " * 8 + self._rest)
        self._sums = {suffix: same + sum(suffix) for suffix in (self._picture, b".json")}

    def add(self, start: int, pictures: np.ndarray, labels: Sequence[int] | None) -> None:
        parts = []
        for i, data in enumerate(encoded(self._job, pictures)):
            key = self._job.key(start + i).encode()
            digits = sum(key)
            facts = self._facts.of(start + i, None if labels is None else labels[i])
            parts += (self._member(key, digits, self._picture, data), self._member(key, digits, b".json", facts))
        self._stream.write(b"".join(parts))

    def close(self) -> None:
        size = self._stream.tell() + 2 * BLOCK  # two empty blocks end a tar, and it is whole in records of 20
        self._stream.write(bytes(2 * BLOCK + -size % tarfile.RECORDSIZE))
        self._stream.close()

    def _member(self, key: bytes, digits: int, suffix: bytes, data: bytes) -> bytes:
        """`digits`: the sum of the key's, for the checksum."""
        size, in_size, padding = _size(len(data))
        checksum = b"%06o\0 " % (self._sums[suffix] + digits + in_size)
        name = (key + suffix).ljust(100, b"\0")
        return b"".join((name, self._owner, size, self._time, checksum, self._rest, data, padding))


@lru_cache(4096)
def _size(size: int) -> tuple[bytes, int, bytes]:
    """As a header has it, the sum of that, and what fills the last block."""
    octal = b"%011o" % size
    return octal, sum(octal), bytes(-size % BLOCK)


class ParquetWriter:
    """A row a picture: `image` as Hugging Face's Image feature, `seed`, `index` and `label` (null without classes)."""

    def __init__(self, job: Job, shard: Shard, folder: Path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.files = [f"{shard.name}.parquet"]
        self._job, self._pa = job, pa
        features: dict[str, Any] = {"image": {"_type": "Image"}}
        features |= {name: {"dtype": "uint64", "_type": "Value"} for name in ("seed", "index")}
        features["label"] = {"dtype": "int64", "_type": "Value"}
        classes = job.subject.classes
        if classes is not None:
            features["label"] = {"names": list(classes), "_type": "ClassLabel"}
        self._schema = pa.schema(
            [
                ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
                ("seed", pa.uint64()),
                ("index", pa.uint64()),
                ("label", pa.int64()),
            ],
            metadata={"huggingface": json.dumps({"info": {"features": features}})},
        )
        self._rows: list[tuple[dict[str, Any], int, int | None]] = []  # image, index, label
        self._writer = pq.ParquetWriter(folder / self.files[0], self._schema, compression="zstd")

    def add(self, start: int, pictures: np.ndarray, labels: Sequence[int] | None) -> None:
        for i, data in enumerate(encoded(self._job, pictures)):
            image = {"bytes": data, "path": f"{self._job.key(start + i)}.{self._job.image}"}
            self._rows.append((image, start + i, None if labels is None else labels[i]))
        while len(self._rows) >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        group, self._rows = self._rows[:ROW_GROUP], self._rows[ROW_GROUP:]
        image, index, label = zip(*group, strict=True)
        columns = {"image": image, "seed": [self._job.seed] * len(group), "index": index, "label": label}
        self._writer.write_table(self._pa.table(columns, schema=self._schema), row_group_size=ROW_GROUP)


class NpyWriter:
    """The pixels (N, H, W, C) uint8, and of a conditional model the labels (N,) int64 in a second file."""

    def __init__(self, job: Job, shard: Shard, folder: Path):
        self.files = [f"{shard.name}.npy"] + ([] if job.labels is None else [f"{shard.name}.labels.npy"])
        subject = job.subject
        self._stream = (folder / self.files[0]).open("wb")
        shape = (shard.n, subject.height, subject.width, subject.channels)
        np.lib.format.write_array_header_1_0(self._stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self._folder = folder
        self._labels: list[int] = []

    def add(self, start: int, pictures: np.ndarray, labels: Sequence[int] | None) -> None:
        self._stream.write(np.ascontiguousarray(pictures).data)
        self._labels += labels or []

    def close(self) -> None:
        self._stream.close()
        for name in self.files[1:]:
            np.save(self._folder / name, np.array(self._labels, np.int64))


class FilesWriter:
    """A folder of pictures named by index, and metadata.jsonl: Hugging Face's image folder."""

    def __init__(self, job: Job, shard: Shard, folder: Path):
        self.files = [shard.name]
        self._job = job
        self._facts = Facts(job)
        self._folder = folder / shard.name
        self._folder.mkdir()
        self._metadata = (self._folder / "metadata.jsonl").open("wb")

    def add(self, start: int, pictures: np.ndarray, labels: Sequence[int] | None) -> None:
        for i, data in enumerate(encoded(self._job, pictures)):
            name = f"{self._job.key(start + i)}.{self._job.image}"
            (self._folder / name).write_bytes(data)
            facts = self._facts.of(start + i, None if labels is None else labels[i])
            self._metadata.write(b'{"file_name":"%s",%s\n' % (name.encode(), facts[1:]))

    def close(self) -> None:
        self._metadata.close()


def encoded(job: Job, pictures: np.ndarray) -> list[bytes]:
    """Each picture as a file. What it is stands beside it: as text within a PNG it would be a third of a digit's."""
    if job.image == "webp":
        return [images.webp(picture) for picture in pictures]
    return pngs(pictures)


class Facts:
    """What each picture is, as JSON: `{"model":"cgan-mnist","seed":7,"index":0,"label":0,"class":"0"}`."""

    def __init__(self, job: Job):
        model: dict[str, Any] = {"model": job.subject.id}
        if job.truncation is not None:
            model["truncation"] = job.truncation
        if job.edits:
            model["edits"] = [str(edit) for edit in job.edits]
        self._before = b'%s,"seed":%d,"index":' % (_json(model)[:-1], job.seed)
        classes = job.subject.classes or ()
        self._labels = [_json({"label": label, "class": name})[1:] for label, name in enumerate(classes)]

    def of(self, index: int, label: int | None) -> bytes:
        return b"%s%d%s" % (self._before, index, b"}" if label is None else b"," + self._labels[label])


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

"""Write the images of a shard to files in each format. The same images give the same bytes.

Writers accept batches of any length, so a shard is never completely in memory.
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

BLOCK = 512  # bytes, of a tar
ROW_GROUP = 1024  # rows in a Parquet row group, independent of the batches


class Writer(Protocol):
    files: list[str]  # names in the folder: files, or one folder of files

    def add(self, start: int, pixels: np.ndarray, labels: Sequence[int] | None) -> None:
        """Add the next images (N, H, W, C) uint8, at indices `start` to `start + N - 1`."""
        ...

    def close(self) -> None:
        """Complete the files after the last image. Without this call the files are incomplete."""
        ...


def writer(job: Job, shard: Shard, folder: Path) -> Writer:
    """Return a writer of the files of `shard` in `folder`."""
    kinds = {"webdataset": TarWriter, "parquet": ParquetWriter, "npy": NpyWriter, "files": FilesWriter}
    return kinds[job.format](job, shard, folder)


class TarWriter:
    """WebDataset: for each image `INDEX.png` (or .webp) and `INDEX.json`, in order of index."""

    def __init__(self, job: Job, shard: Shard, folder: Path):
        self.files = [f"{shard.name}.tar"]
        self._job = job
        self._facts = Facts(job)
        self._stream = (folder / self.files[0]).open("wb")
        # tarfile takes 20 µs for each member, a tenth of the time of a small model for an image. This header template
        # has gaps for name, size and checksum; the checksum field counts as spaces.
        template = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
        self._owner, self._time, self._rest = template[100:124], template[135:148], template[156:]
        self._suffix = f".{job.image}".encode()
        same = sum(self._owner + self._time + b" " * 8 + self._rest)
        self._sums = {suffix: same + sum(suffix) for suffix in (self._suffix, b".json")}

    def add(self, start: int, pixels: np.ndarray, labels: Sequence[int] | None) -> None:
        parts = []
        for i, data in enumerate(encoded(self._job, pixels)):
            key = self._job.key(start + i).encode()
            digits = sum(key)
            facts = self._facts.of(start + i, None if labels is None else labels[i])
            parts += (self._member(key, digits, self._suffix, data), self._member(key, digits, b".json", facts))
        self._stream.write(b"".join(parts))

    def close(self) -> None:
        size = self._stream.tell() + 2 * BLOCK  # a tar ends with two empty blocks, padded to a record of 20 blocks
        self._stream.write(bytes(2 * BLOCK + -size % tarfile.RECORDSIZE))
        self._stream.close()

    def _member(self, key: bytes, digits: int, suffix: bytes, data: bytes) -> bytes:
        """Return a tar member. `digits`: the sum of the bytes of the key, for the checksum."""
        size, in_size, padding = _size(len(data))
        checksum = b"%06o\0 " % (self._sums[suffix] + digits + in_size)
        name = (key + suffix).ljust(100, b"\0")
        return b"".join((name, self._owner, size, self._time, checksum, self._rest, data, padding))


@lru_cache(4096)
def _size(size: int) -> tuple[bytes, int, bytes]:
    """Return the octal size field, the sum of its bytes, and the padding of the last block."""
    octal = b"%011o" % size
    return octal, sum(octal), bytes(-size % BLOCK)


class ParquetWriter:
    """One row for each image: `image` (Hugging Face's Image), `seed`, `index` and `label` (null without classes)."""

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

    def add(self, start: int, pixels: np.ndarray, labels: Sequence[int] | None) -> None:
        for i, data in enumerate(encoded(self._job, pixels)):
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
    """Pixels (N, H, W, C) uint8; for a conditional model also labels (N,) int64 in a second file."""

    def __init__(self, job: Job, shard: Shard, folder: Path):
        self.files = [f"{shard.name}.npy"] + ([] if job.labels is None else [f"{shard.name}.labels.npy"])
        subject = job.subject
        self._stream = (folder / self.files[0]).open("wb")
        shape = (shard.n, subject.height, subject.width, subject.channels)
        np.lib.format.write_array_header_1_0(self._stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self._folder = folder
        self._labels: list[int] = []

    def add(self, start: int, pixels: np.ndarray, labels: Sequence[int] | None) -> None:
        self._stream.write(np.ascontiguousarray(pixels).data)
        self._labels += labels or []

    def close(self) -> None:
        self._stream.close()
        for name in self.files[1:]:
            np.save(self._folder / name, np.array(self._labels, np.int64))


class FilesWriter:
    """Folder of images named by index, with metadata.jsonl (Hugging Face's ImageFolder)."""

    def __init__(self, job: Job, shard: Shard, folder: Path):
        self.files = [shard.name]
        self._job = job
        self._facts = Facts(job)
        self._folder = folder / shard.name
        self._folder.mkdir()
        self._metadata = (self._folder / "metadata.jsonl").open("wb")

    def add(self, start: int, pixels: np.ndarray, labels: Sequence[int] | None) -> None:
        for i, data in enumerate(encoded(self._job, pixels)):
            name = f"{self._job.key(start + i)}.{self._job.image}"
            (self._folder / name).write_bytes(data)
            facts = self._facts.of(start + i, None if labels is None else labels[i])
            self._metadata.write(b'{"file_name":"%s",%s\n' % (name.encode(), facts[1:]))

    def close(self) -> None:
        self._metadata.close()


def encoded(job: Job, pixels: np.ndarray) -> list[bytes]:
    """Encode each image without metadata: in the PNG of a digit, metadata would be a third of the file."""
    if job.image == "webp":
        return [images.webp(image) for image in pixels]
    return pngs(pixels)


class Facts:
    """Metadata of each image as JSON: `{"model":"cgan-mnist","seed":7,"index":0,"label":0,"class":"0"}`."""

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

"""Where shards lie: a folder of this machine, or anything that fsspec reaches, such as s3://bucket/folder.

Nothing is ever seen half-written. On local disks a file is staged beside its place, synced, and renamed. Elsewhere it
is staged on this machine and uploaded: an object store shows an object when it is whole, and on anything else it gets
a temporary name first.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import has_magic
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from serving.bulk.errors import BulkError

OWN = "_ganymede"  # Arrow and Spark pass over names that begin so
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss"}  # an upload is atomic, a rename a copy
CHUNK = 1 << 20
LOCK = "lock"  # in each folder of staging


class Digest(NamedTuple):
    bytes: int
    sha256: str  # of a folder: over its files' own, by name


class Store:
    """A directory. Names within it have forward slashes."""

    def __init__(self, url: str):
        """A path is taken as it is, brackets and colons too. Raises BulkError where fsspec cannot reach a URL."""
        self.url = url
        try:
            fs, root = fsspec.url_to_fs(url) if "://" in url else (LocalFileSystem(), os.path.abspath(url))
        except (ImportError, ValueError) as error:
            raise BulkError(f"`out` (={url}) cannot be reached: {error}.") from None
        self._fs: Any = fs
        self._root: str = root.rstrip("/")
        self._local = isinstance(fs, LocalFileSystem)
        if not self._local and has_magic(root):
            raise BulkError(f"`out` (={url}) has one of `*?[` in it, which would mean many places there.")
        protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        self._atomic = bool(protocols & OBJECT_STORES)

    def read(self, name: str) -> bytes | None:
        """None where there is no such file."""
        try:
            return self._fs.cat_file(self._path(name))
        except FileNotFoundError:
            return None

    def read_all(self, folder: str) -> dict[str, bytes]:
        """Every file of a folder, by name; remote ones are asked for together."""
        found = self._list(folder)
        if self._local:  # where `cat` would take brackets for a pattern
            return {name: data for name in found if (data := self.read(f"{folder}/{name}")) is not None}
        contents = self._fs.cat(list(found.values()), on_error="omit") if found else {}
        return {name: contents[path] for name, path in found.items() if path in contents}

    def write(self, name: str, data: bytes) -> None:
        with self.staging() as folder:
            path = folder / name.rpartition("/")[2]
            path.write_bytes(data)
            self.commit(path, name)

    def create(self, name: str, data: bytes) -> None:
        """Writes it unless it is there: of two at once the first stays, or, where there are no hard links, the last."""
        with self.staging() as folder:
            path = folder / name.rpartition("/")[2]
            path.write_bytes(data)
            if self._local:
                _sync(path)
                Path(self._path(name)).parent.mkdir(parents=True, exist_ok=True)
                with suppress(OSError):
                    os.link(path, self._path(name))
            if self.read(name) is None:
                self.commit(path, name)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder of this machine for what is not whole yet; it goes with all that is still in it."""
        if not self._local:
            with tempfile.TemporaryDirectory(prefix="ganymede-") as folder:
                yield Path(folder)
            return
        folder, lock = _staging_in(Path(self._path(f"{OWN}/staging")))
        try:
            with lock:
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def clean(self) -> None:
        """Removes what processes of this machine, by its name, that are no more have left in staging.

        The living hold locks. Where the file system has none, or for another user's, nothing is removed.
        """
        if not self._local:
            return
        for folder in Path(self._path(f"{OWN}/staging")).glob("*"):
            if folder.name.rpartition(".")[0] != socket.gethostname():
                continue
            with suppress(OSError):
                with (folder / LOCK).open("wb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                folder.rmdir()  # NFS keeps a file that is open

    def commit(self, path: Path, name: str) -> None:
        """Puts a whole file, or folder of files, from `staging` in its place, over what is there."""
        target = self._path(name)
        if self._local:
            _sync(path)
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            _replace(path, target)
        elif path.is_dir():
            # No store renames a folder at once: the shard counts once its statistics are there, which come after.
            self.remove(name)
            self._fs.put(f"{path}/", f"{target}/", recursive=True)
        elif self._atomic:
            self._fs.put_file(str(path), target)
        else:
            self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            partial = f"{self._path(OWN)}/staging/{path.name}.{secrets.token_hex(8)}"
            self._fs.makedirs(partial.rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(path), partial)
            self._fs.mv(partial, target)

    def sizes(self) -> dict[str, int]:
        """Bytes of each file; of a folder, -1: its files are not asked. One listing, where asking each is slow."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._root, detail=True)
        except FileNotFoundError:
            return {}
        return {
            entry["name"].rstrip("/").rpartition("/")[2]: -1 if entry["type"] == "directory" else int(entry["size"])
            for entry in found
        }

    def digest(self, name: str) -> Digest | None:
        """Read anew, whole. None where it is not there."""
        self._fs.invalidate_cache()
        try:
            if self._fs.info(self._path(name))["type"] != "directory":
                return self._digest_of(self._path(name))
            return _combined({file: self._digest_of(path) for file, path in self._list(name).items()})
        except FileNotFoundError:  # or another run has just replaced it
            return None

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm(self._path(name), recursive=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _list(self, folder: str) -> dict[str, str]:
        """The files of a folder: name -> path."""
        try:
            found = self._fs.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            return {}
        return {entry["name"].rpartition("/")[2]: entry["name"] for entry in found if entry["type"] == "file"}

    def _digest_of(self, path: str) -> Digest:
        with self._fs.open(path, "rb") as stream:
            return _digest(stream)


def digest(path: Path) -> Digest:
    """Of a file, or a folder of files, of this machine."""
    if path.is_dir():
        return _combined({file.name: digest(file) for file in path.iterdir()})
    with path.open("rb") as stream:
        return _digest(stream)


def _digest(stream: Any) -> Digest:
    sha256, size = hashlib.sha256(), 0
    while data := stream.read(CHUNK):
        sha256.update(data)
        size += len(data)
    return Digest(size, sha256.hexdigest())


def _combined(digests: dict[str, Digest]) -> Digest:
    """As `sha256sum *` in the folder prints it, and of that text."""
    lines = "".join(f"{digests[name].sha256}  {name}\n" for name in sorted(digests))
    return Digest(sum(found.bytes for found in digests.values()), hashlib.sha256(lines.encode()).hexdigest())


def _staging_in(parent: Path) -> tuple[Path, BinaryIO]:
    """A new folder, and its lock, which is held until it is closed or this process ends."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{socket.gethostname()}.", dir=parent))
        with suppress(FileNotFoundError):  # another's `clean` found it before it was locked
            lock = (folder / LOCK).open("wb")
            with suppress(OSError):  # no locks here: then `clean` takes nothing
                fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / LOCK).exists():
                return folder, lock
            lock.close()


def _replace(path: Path, target: str) -> None:
    """A folder does not take the place of another: that goes to staging first, unless another run was quicker."""
    while True:
        try:
            return os.replace(path, target)
        except OSError as error:
            if not path.is_dir() or error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        with suppress(FileNotFoundError):
            os.replace(target, Path(tempfile.mkdtemp(dir=path.parent)) / path.name)


def _sync(path: Path) -> None:
    """To the disk, so that after a power cut a name never leads to half a file. A folder's files are many and small:
    they are left to the system, and `verify` finds what a power cut took."""
    if path.is_file():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

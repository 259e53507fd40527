"""Storage of shards: a local folder, or a URL that fsspec supports, such as s3://bucket/folder.

Files never appear half-written. On local disks a file is staged on the same file system, synced and renamed. Otherwise
it is staged on this machine and uploaded. Object stores show only complete objects; on other systems the upload has a
temporary name first.
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

OWN = "_ganymede"  # Arrow and Spark ignore names with this prefix
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss"}  # an upload is atomic, a rename a copy
CHUNK = 1 << 20
LOCK = "lock"  # in each folder of staging


class Digest(NamedTuple):
    bytes: int
    sha256: str  # of a folder: the hash of its `sha256sum` listing


class Store:
    """A directory. Names within it have forward slashes."""

    def __init__(self, url: str):
        """Paths may contain brackets and colons. Raises BulkError if fsspec does not support a URL."""
        self.url = url
        try:
            fs, root = fsspec.url_to_fs(url) if "://" in url else (LocalFileSystem(), os.path.abspath(url))
        except (ImportError, ValueError) as error:
            raise BulkError(f"`out` (={url}) cannot be reached: {error}.") from None
        self._fs: Any = fs
        self._root: str = root.rstrip("/")
        self._local = isinstance(fs, LocalFileSystem)
        if not self._local and has_magic(root):
            raise BulkError(f"`out` (={url}) contains one of `*?[`, which are wildcards in a URL; use another name.")
        protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        self._atomic = bool(protocols & OBJECT_STORES)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""
        try:
            return self._fs.cat_file(self._path(name))
        except FileNotFoundError:
            return None

    def read_all(self, folder: str) -> dict[str, bytes]:
        """Return the content of all files of a folder by name. Remote files are read concurrently."""
        found = self._list(folder)
        if self._local:  # `cat` would treat brackets as a pattern
            return {name: data for name in found if (data := self.read(f"{folder}/{name}")) is not None}
        contents = self._fs.cat(list(found.values()), on_error="omit") if found else {}
        return {name: contents[path] for name, path in found.items() if path in contents}

    def write(self, name: str, data: bytes) -> None:
        with self.staging() as folder:
            path = folder / name.rpartition("/")[2]
            path.write_bytes(data)
            self.commit(path, name)

    def create(self, name: str, data: bytes) -> None:
        """Write a file unless it exists. Of two writers the first wins; without hard links, the last."""
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
        """Yield a local folder for incomplete files. It is removed with its content on exit."""
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
        """Remove staging folders of dead processes of this host.

        Live processes hold locks. Without file locks, or for folders of another user, nothing is removed.
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
                folder.rmdir()  # NFS keeps an open file

    def commit(self, path: Path, name: str) -> None:
        """Move a complete file or folder from `staging` to its destination, and replace an existing one."""
        target = self._path(name)
        if self._local:
            _sync(path)
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            _replace(path, target)
        elif path.is_dir():
            # No store renames folders atomically. The statistics follow and mark the shard complete.
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
        """Return the size of each file in bytes, -1 for a folder. One listing is faster than single requests."""
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
        """Read the file or folder and return its digest, or None if it does not exist."""
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
        """Return the files of a folder: name -> path."""
        try:
            found = self._fs.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            return {}
        return {entry["name"].rpartition("/")[2]: entry["name"] for entry in found if entry["type"] == "file"}

    def _digest_of(self, path: str) -> Digest:
        with self._fs.open(path, "rb") as stream:
            return _digest(stream)


def digest(path: Path) -> Digest:
    """Return the digest of a local file or folder of files."""
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
    """Return the total size and the SHA-256 of the output of `sha256sum *` in the folder."""
    lines = "".join(f"{digests[name].sha256}  {name}\n" for name in sorted(digests))
    return Digest(sum(found.bytes for found in digests.values()), hashlib.sha256(lines.encode()).hexdigest())


def _staging_in(parent: Path) -> tuple[Path, BinaryIO]:
    """Create a staging folder. Return it and its lock, held until it is closed or the process ends."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{socket.gethostname()}.", dir=parent))
        with suppress(FileNotFoundError):  # another process removed it in `clean` before it was locked
            lock = (folder / LOCK).open("wb")
            with suppress(OSError):  # without locks `clean` removes nothing
                fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / LOCK).exists():
                return folder, lock
            lock.close()


def _replace(path: Path, target: str) -> None:
    """Replace a file or folder. os.replace cannot replace a folder, so the old one moves to staging first."""
    while True:
        try:
            return os.replace(path, target)
        except OSError as error:
            if not path.is_dir() or error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        with suppress(FileNotFoundError):
            os.replace(target, Path(tempfile.mkdtemp(dir=path.parent)) / path.name)


def _sync(path: Path) -> None:
    """Sync a file to disk, so that it is complete after a power failure. Folders have many small files and are not
    synced; `verify` finds files that a power failure damaged."""
    if path.is_file():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

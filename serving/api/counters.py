"""Numbers that several processes add to and any of them can read: a file for each process, mapped into memory.

A file holds CAPACITY doubles and then CAPACITY names. Each process writes its own file alone, so adding takes no lock
and what a process counted outlives it, however it ended. Without a folder there is one process and no file.
"""

import logging
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

CAPACITY = 16_384  # series; far more than routes, models and statuses can make
VALUE, NAME = 8, 240  # bytes
SIZE = CAPACITY * (VALUE + NAME)
SUFFIX = ".ganymede"

logger = logging.getLogger("ganymede")


class Counters:
    """This process's numbers, by name. A name is added to by one thread alone."""

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._memory = mmap.mmap(-1, SIZE) if folder is None else _map(folder / f"{os.getpid()}{SUFFIX}")
        self._values = memoryview(self._memory)[: CAPACITY * VALUE].cast("d")
        self._slots: dict[str, int] = {}
        self._lock = Lock()  # for new names

    def add(self, name: str, amount: float = 1) -> None:
        slot = self._slots.get(name)
        self._values[self.slot(name) if slot is None else slot] += amount

    def add_at(self, slot: int, amount: float) -> None:
        self._values[slot] += amount

    def slot(self, name: str) -> int:
        """Where a name's number is, from now on."""
        with self._lock:
            if name not in self._slots:
                slot, encoded = len(self._slots), name.encode()
                if slot == CAPACITY or len(encoded) > NAME:
                    raise ValueError(f"there is no room for the series {name}")
                position = CAPACITY * VALUE + slot * NAME
                self._memory[position : position + len(encoded)] = encoded
                self._slots[name] = slot
            return self._slots[name]

    def processes(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Every process that counted, dead ones too, and its numbers, names in the order in which they came."""
        yield os.getpid(), _read(self._memory)
        for path in sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder else ():
            if int(path.stem) != os.getpid():
                yield int(path.stem), _read(path.read_bytes())


def check_room(folder: Path, processes: int) -> None:
    """Raises OSError where `folder` cannot take the files of so many processes."""
    path = folder / "room"
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, processes * SIZE)
    finally:
        path.unlink(missing_ok=True)


def _map(path: Path) -> mmap.mmap:
    """A new file, or memory of this process alone where the disk has become full.

    The whole file is allocated: a write into one with holes, on a full disk, is the end of a process (SIGBUS).
    """
    try:
        with path.open("w+b") as file:
            os.posix_fallocate(file.fileno(), 0, SIZE)
            return mmap.mmap(file.fileno(), SIZE)
    except OSError as error:
        path.unlink(missing_ok=True)
        logger.error("%s: %s; /metrics of other processes will not have this one's numbers.", path, error.strerror)
        return mmap.mmap(-1, SIZE)


def _read(memory: bytes | mmap.mmap) -> dict[str, float]:
    values = memoryview(memory[: CAPACITY * VALUE]).cast("d")
    numbers = {}
    for slot in range(CAPACITY):
        position = CAPACITY * VALUE + slot * NAME
        name = memory[position : position + NAME].rstrip(b"\0")
        if not name:
            break
        numbers[name.decode()] = values[slot]
    return numbers

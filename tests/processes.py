"""The processes of a server, and waiting for what they do."""

import time
from collections.abc import Callable
from pathlib import Path


def children(pid: int) -> set[int]:
    """Those that any of its threads started."""
    found = b" ".join(read(path) for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return set(map(int, found.split()))


def workers(pid: int) -> set[int]:
    """Those of a supervisor, which are its only children; none that ended meanwhile."""
    return {child for child in children(pid) if read(Path(f"/proc/{child}/cmdline"))}


def spawned(pid: int) -> set[int]:
    """Those that multiprocessing spawned for this process: not its tracker of resources, and none that ended."""
    return {child for child in children(pid) if b"spawn_main" in read(Path(f"/proc/{child}/cmdline"))}


def worker(pid: int) -> int:
    """The only worker of a supervisor."""
    (found,) = workers(pid)
    return found


def read(path: Path) -> bytes:
    """A file of /proc; nothing once its process or thread has ended."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def wait(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - began

"""The processes of a server, and waiting for what they do."""

import time
from collections.abc import Callable
from pathlib import Path


def children(pid: int) -> set[int]:
    """Those that any of its threads started."""
    return {int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()}


def workers(pid: int) -> set[int]:
    """Those of a supervisor: not multiprocessing's own tracker of resources, and none that ended meanwhile."""
    return {child for child in children(pid) if b"spawn_main" in command(child)}


def command(pid: int) -> bytes:
    """The command line of a process, its words ended by zeros; nothing once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def wait(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - began

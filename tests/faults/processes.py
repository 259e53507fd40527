"""The processes of a server, and waiting for what they do."""

import time
from collections.abc import Callable
from pathlib import Path


def children(pid: int) -> set[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return set(map(int, path.read_text().split()))


def workers(pid: int) -> set[int]:
    """Those of a supervisor."""
    return {child for child in children(pid) if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()}


def wait(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - began

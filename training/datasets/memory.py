"""Memory: whether a dataset fits into it, told before anything is read."""

import re
from pathlib import Path

from training.errors import DataError

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # version 2, as a container has it
SHARE = 0.9  # of the free memory; the rest is for networks and libraries
GIB = 2**30


def free() -> int | None:
    """Return the bytes that this process may still take, of the machine and of its container; None if unknown."""
    found = [_field(MEMINFO, r"^MemAvailable:\s+(\d+) kB", 1024)]
    limit = _field(CGROUP / "memory.max", r"^(\d+)$")
    used = _field(CGROUP / "memory.current", r"^(\d+)$")
    if limit is not None and used is not None:
        cached = _field(CGROUP / "memory.stat", r"^inactive_file (\d+)$") or 0  # given back as soon as it is wanted
        found.append(max(0, limit - used + cached))
    return min((value for value in found if value is not None), default=None)


def check_fits(what: str, count: int, channels: int, resolution: int) -> None:
    """Raises DataError where `count` uint8 images do not fit, with the count and the resolution that would."""
    available = free()
    needed = count * channels * resolution**2
    if available is None or needed <= SHARE * available:
        return
    images = int(SHARE * available) // (channels * resolution**2)
    size = int((SHARE * available / (count * channels)) ** 0.5)
    power = 1 << max(0, size.bit_length() - 1)  # networks take 32, 64, ...
    raise DataError(
        f"{what}: {count:,} images of {resolution} px take {needed / GIB:,.1f} GiB of memory, and "
        f"{available / GIB:,.1f} GiB are free; data.count={images} or data.resolution={power} would fit."
    )


def _field(path: Path, pattern: str, unit: int = 1) -> int | None:
    try:
        found = re.search(pattern, path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return unit * int(found[1]) if found else None

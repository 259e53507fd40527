"""Number of CPU cores that this process may use: the limit of a container, not the count of the machine."""

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def available_cpus() -> int:
    """Return the smaller of the affinity mask's size and the cgroup's CPU quota, rounded up; at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def _cgroup_quota() -> float | None:
    """Return the smallest CPU quota, in cores, of this process's cgroups (v1 or v2) and their parents, or None."""
    try:
        memberships = [line.split(":", 2) for line in _MEMBERSHIP.read_text().splitlines()]
    except OSError:
        return None
    quotas = []
    for _, controllers, path in memberships:
        if controllers == "":
            root = _CGROUPS
        elif "cpu" in controllers.split(","):
            root = _CGROUPS / "cpu"
        else:
            continue
        # In a container the path may be the host's, which is not mounted; the container's quota is then at the root.
        group = root / path.lstrip("/")
        quotas += [_quota(folder) for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(group: Path) -> float | None:
    """Return the quota of one cgroup in cores, or None."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()  # such as "max 100000" or "150000 100000"
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()  # "-1" for none
            period = (group / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        return None

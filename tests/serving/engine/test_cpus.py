"""A container's share of the processors, not the machine's count."""

import os
from pathlib import Path

import pytest

from serving.engine import cpus


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine of 8 processors; the function writes the cgroup files of a process in it."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cpus, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cpus, "_MEMBERSHIP", tmp_path / "membership")

    def write(membership: str, files: dict[str, str]) -> None:
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_without_a_quota_it_is_the_affinity_mask(machine):
    assert cpus.available_cpus() == 8  # no cgroups at all
    machine("0::/\n", {"cpu.max": "max 100000\n"})
    assert cpus.available_cpus() == 8


@pytest.mark.parametrize(
    ("cpu_max", "expected"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("3200000 100000", 8)]
)
def test_a_version_2_quota_is_rounded_up(machine, cpu_max: str, expected: int):
    machine("0::/\n", {"cpu.max": cpu_max})
    assert cpus.available_cpus() == expected


def test_the_tightest_quota_of_the_groups_above_holds(machine):
    machine("0::/pod/box\n", {"cpu.max": "max 100000", "pod/cpu.max": "300000 100000", "pod/box/cpu.max": "max 100000"})
    assert cpus.available_cpus() == 3


def test_a_path_of_the_host_leaves_the_quota_at_the_root(machine):
    machine("0::/system.slice/somewhere-else\n", {"cpu.max": "400000 100000"})
    assert cpus.available_cpus() == 4


def test_a_version_1_quota_holds(machine):
    files = {"cpu/box/cpu.cfs_quota_us": "250000", "cpu/box/cpu.cfs_period_us": "100000"}
    machine("5:memory:/box\n4:cpu,cpuacct:/box\n", files | {"cpu/cpu.cfs_quota_us": "-1"})
    assert cpus.available_cpus() == 3

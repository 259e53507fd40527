"""Benchmark of bulk generation: throughput of every engine and peak memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bulk
from server import free_port

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")]


def table(*arguments: str) -> list[list[str]]:
    command = [sys.executable, "-m", "benchmarks.bulk", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][2:]


def test_every_engine_is_compared_with_the_model_alone():
    rows = table("--images", "20000", "--rounds", "1", "--workers", "2", "--port", str(free_port()))
    names = [
        "the model alone",
        "local engine, 1 worker(s)",
        "local engine, 2 worker(s)",
        "server engine, one server on this machine",
    ]
    assert [row[0] for row in rows] == names
    assert rows[0][2] == "1.00 (1.00 to 1.00)"
    assert all(float(row[1].replace(",", "")) > 0 for row in rows)


def test_memory_is_listed_for_each_number_of_images():
    rows = table("--memory", "1000", "2000")
    assert [row[0] for row in rows] == ["1,000", "2,000"]
    assert all(int(row[1].removesuffix(" MiB")) > 20 for row in rows)


@pytest.mark.parametrize("seconds", [[1.0], [1.0, 1.0], [1.0, 1.02], [1.0, 1.3], [1.0, 1.0, 2.5]])
def test_the_rate_is_the_sum_over_workers_of_unequal_speed(seconds: list[float]):
    """`seconds`: time that each worker needs for a shard. The next shard goes to the first idle worker."""
    ready, done = list(seconds), []
    for _ in range(60 - len(seconds)):
        worker = min(range(len(ready)), key=ready.__getitem__)
        done.append(ready[worker])
        ready[worker] += seconds[worker]
    assert bulk.shards_per_second(done + sorted(ready), len(seconds)) == pytest.approx(
        sum(1 / s for s in seconds), rel=0.03
    )

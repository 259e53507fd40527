"""Serving benchmark: it measures real servers and prints their metrics, ratios and targets."""

import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from benchmarks.serving.__main__ import main
from benchmarks.serving.report import METRICS, RAW, table, targets
from benchmarks.serving.servers import GANYMEDE, MODEL
from server import ROOT
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from tools import needs

PREVIOUS = "Ganymede, e641b93"


@pytest.mark.slow
@needs("wrk", "git", package="wrk")
def test_a_short_run_measures_this_and_an_older_revision(repository_folder: Path, tmp_path: Path):
    out, chart = tmp_path / "results.json", tmp_path / "chart.png"
    command = [sys.executable, "-m", "benchmarks.serving", "--servers", GANYMEDE.name, "--against", "HEAD"]
    command += ["--rounds", "1", "--seconds", "1", "--model", str(repository_folder / "tiny-dcgan")]
    before = worktrees()
    done = subprocess.run(
        [*command, "--json", str(out), "--chart", str(chart)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    assert results.keys() == {RAW, GANYMEDE.name, "Ganymede, HEAD"}
    for name in (GANYMEDE.name, "Ganymede, HEAD"):
        assert METRICS.keys() <= results[name].keys()
        assert sum(results[name]["errors"]) == 0
        assert all(value > 0 for metric in METRICS.keys() - {"errors"} for value in results[name][metric])
    assert "| 64 images a request, `.npy`, 4 clients: images/s against raw model |" in done.stdout
    assert "| 1 client, 1 image: p50 against Ganymede, HEAD |" in done.stdout
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert worktrees() == before


def worktrees() -> list[str]:
    """The folders of this repository's work trees, whatever revision each is at."""
    return [line for line in git("worktree", "list", "--porcelain").splitlines() if line.startswith("worktree ")]


@needs("git", package="git")
def test_an_unknown_revision_ends_the_run(repository_folder: Path):
    before = worktrees()
    with pytest.raises(SystemExit, match="--against no-such-revision"):
        main(
            [
                "--servers",
                GANYMEDE.name,
                "--against",
                "no-such-revision",
                "--model",
                str(repository_folder / "tiny-dcgan"),
            ]
        )
    assert worktrees() == before


def test_ratios_are_of_two_servers_in_the_same_round(repository_folder: Path):
    ganymede = {"throughput_1": [10.0, 40.0, 90.0], "throughput_64": [5.0] * 3, "p50_1": [2.0] * 3, "wrk": [0.25]}
    ganymede |= {"start": [1.0, 1.1, 1.5], "memory": [2e8] * 3}
    results = {
        RAW: {"throughput_64": [10.0] * 3, "p50_1": [1.0] * 3},
        GANYMEDE.name: ganymede,
        PREVIOUS: {"throughput_1": [10.0, 20.0, 30.0], "p50_1": [4.0] * 3},
        "Other": {"throughput_1": [5.0, 10.0, 15.0]},
    }
    lines = list(targets(results))
    assert (
        "| 64 images a request, `.npy`, 4 clients: images/s against raw model | 0.50 (0.50 to 0.50) | 0.93 | 0.97 |"
        in lines
    )
    assert (
        f"| 1 image a request, PNG, 64 clients: images/s against {PREVIOUS} | 2.00 (1.00 to 3.00) | 1.05 | 1.3 |"
        in lines
    )
    assert "| 1 image a request, PNG, 64 clients: images/s against Other | 4.00 (2.00 to 6.00) | - | - |" in lines
    assert f"| 1 client, 1 image: p50 against {PREVIOUS} | 0.50 (0.50 to 0.50) | 1.0 | 0.8 |" in lines
    assert "| start of process to first image, s | 1.10 (1.00 to 1.50) | 1.2 | 0.8 |" in lines
    assert "| memory (PSS) after the load, MB | 200 (200 to 200) | 210 | 150 |" in lines
    runtime = Runtime(load_model(repository_folder / "tiny-dcgan"), threads=1)
    assert "| Other | - | 10 (5 to 15) | - |" in table(results, runtime, models=6)


def test_environments_of_peers_have_every_package_they_load():
    """Peers run code of `serving.engine`, so every library that it imports must be installed there too."""
    load = "before = set(sys.modules); import benchmarks.serving.peers.model; print(*set(sys.modules) - before)"
    code = f"import sys; {load}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    of = packages_distributions()
    loaded = {package for module in done.stdout.split() for package in of.get(module, [])} - {"ganymede"}
    assert "numpy" in loaded
    assert loaded <= {package.partition("==")[0] for package in MODEL}


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout

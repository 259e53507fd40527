"""The benchmark of serving asks the real server for real pictures, and prints what it promises."""

import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from benchmarks.serving.report import COLUMNS, OURS, RAW, ratios, table
from benchmarks.serving.servers import MODEL
from server import ROOT
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime
from tools import needs


@needs("wrk", package="wrk")
def test_a_short_run_measures_everything(repository_folder: Path, tmp_path: Path):
    out, picture = tmp_path / "figures.json", tmp_path / "figures.png"
    command = [sys.executable, "-m", "benchmarks.serving", "--servers", OURS, "--rounds", "1", "--seconds", "1"]
    command += ["--model", str(repository_folder / "tiny-dcgan"), "--json", str(out), "--picture", str(picture)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert figures.keys() == {RAW, OURS} and COLUMNS.keys() <= figures[OURS].keys()
    assert sum(figures[OURS]["errors"]) == 0
    assert all(value > 0 for name in COLUMNS.keys() - {"errors"} for value in figures[OURS][name])
    assert "| 64 images a request: images/s against the model alone |" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_ratios_are_of_neighbours_in_a_round(repository_folder: Path):
    ours = {"images_1": [10.0, 40.0, 90.0], "images_64": [5.0, 5.0, 5.0], "p50_1": [2.0] * 3, "empty": [1.0] * 3}
    ours |= {"p50_64": [1.0, 2.0, 4.0], "p99_64": [2.0, 3.0, 4.0]}
    figures = {RAW: {"images_64": [10.0] * 3, "p50_1": [1.0] * 3}, OURS: ours, "Other": {"images_1": [5.0, 10.0, 15.0]}}
    lines = ratios(figures)
    assert "| 1 image a request: images/s against Other | 4.00 (2.00 to 6.00) |" in lines
    assert "| 64 images a request: images/s against the model alone | 0.50 (0.50 to 0.50) |" in lines
    assert "| 1 client, 1 image: p50 against the model's latency | 2.00 (2.00 to 2.00) |" in lines
    assert "| 64 clients: p99 against p50 | 1.50 (1.00 to 2.00) |" in lines
    runtime = Runtime(load_model(repository_folder / "tiny-dcgan"), threads=1)
    assert "| Other | 10 (5 to 15) | - |" in table(figures | {OURS: ours | {"wrk": [0.25]}}, runtime)


def test_the_environments_of_peers_hold_every_package_that_they_load():
    """All of them run code of ours: what packs or computes with a new library needs it there, too."""
    load = "before = set(sys.modules); import benchmarks.serving.peers.model; print(*set(sys.modules) - before)"
    code = f"import sys; {load}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    of = packages_distributions()
    loaded = {package for module in done.stdout.split() for package in of.get(module, [])} - {"ganymede"}
    assert "numpy" in loaded
    assert loaded <= {package.partition("==")[0] for package in MODEL}

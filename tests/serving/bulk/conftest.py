"""Data sets of the tiny models."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server import ROOT
from serving.engine import generation
from serving.engine.repository import load_model
from serving.engine.runtime import Runtime

Command = Callable[..., list[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(repository_folder: Path) -> Command:
    """`command("tiny-dcgan", "-n", 9, "--out", folder)`: the words of `ganymede generate`."""

    def words(*arguments: object) -> list[str]:
        start = [sys.executable, "-m", "serving", "generate", "--models", str(repository_folder)]
        return [*start, *map(str, arguments)]

    return words


@pytest.fixture
def generate(command: Command) -> Run:
    """Runs it in a process of its own; `code` is the exit code that is right."""

    def run(*arguments: object, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False, timeout=240, **options
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def expected(repository_folder: Path) -> Callable[..., np.ndarray]:
    """Return a function that generates the images of addresses with the engine."""

    def synthesize(id: str, **request: Any) -> np.ndarray:
        runtime = Runtime(load_model(repository_folder / id), threads=1)
        return runtime.synthesize(generation.sample(runtime, **request).inputs)

    return synthesize

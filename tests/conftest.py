"""What every test may ask for, and the order of files."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tiny_models import build_repository

# Files whose tests take longest, from the longest on: begun last, one would keep a process busy while the others wait.
LONGEST = [
    f"tests/{name}.py"
    for name in (
        "test_readme",
        "training/publish/test_export",
        "training/loop/test_trainer",
        "serving/bulk/test_engines",
        "serving/api/test_limits",
        "playground/test_page",
        "serving/bulk/test_resume",
        "training/test_series",
        "training/test_cli",
        "training/evaluation/test_evaluate",
        "test_models",
        "deploy/test_prometheus",
        "faults/test_repository",
        "faults/test_contract",
    )
]

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # a process for each core: threads of theirs would only wait for each other


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/messages.txt anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.nodeid.partition("::")[0], len(ranks)))


@pytest.fixture(scope="session")
def repository_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository of three tiny generators. Tests that change files copy it first."""
    return build_repository(tmp_path_factory.mktemp("repository") / "models")


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a figure, though pytest captures what tests print."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"    {line}", flush=True)

    return show

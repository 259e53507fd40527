"""What every test may ask for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tiny_models import build_repository


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

"""What every test may ask for."""

from pathlib import Path

import pytest

from tiny_models import build_repository


@pytest.fixture(scope="session")
def repository_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository of three tiny generators. Tests that change files copy it first."""
    return build_repository(tmp_path_factory.mktemp("repository") / "models")

"""What the campaigns share: how long they are, and how they tell their figures. `FAULTS=full` makes them long."""

import os
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether the whole campaign is asked for, or what fits beside other tests."""
    return os.environ.get("FAULTS") == "full"


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a figure, though pytest captures what tests print."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"    {line}", flush=True)

    return show

"""What the campaigns share: how long they are. `FAULTS=full` makes them long."""

import os

import pytest


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether the whole campaign is asked for, or what fits beside other tests."""
    return os.environ.get("FAULTS") == "full"

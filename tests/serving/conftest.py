"""The server that the tests of the API and of the client share."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from server import Server, serving


@pytest.fixture(scope="session")
def server(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server process over the tiny repository."""
    with serving(repository_folder, tmp_path_factory.mktemp("server") / "log.txt") as server:
        yield server


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx2.Client]:
    """A plain HTTP client of that server."""
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        yield client

"""The servers that the tests of the API and of the client share."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx2
import pytest

from containers import IMAGE, contained
from server import Server, serving

Serve = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(scope="session", autouse=True)
def stop_at_once() -> None:
    """No test but that of draining waits for load balancers to notice."""
    os.environ["GANYMEDE_DRAIN"] = "0"


@pytest.fixture(scope="session")
def server(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server process over the tiny repository; where GANYMEDE_IMAGE names an image, in a container of it."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    settings = {"GANYMEDE_DRAIN": "0"}
    with (
        contained(log, repository=repository_folder, settings=settings) if IMAGE else serving(repository_folder, log)
    ) as server:
        yield server


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx2.Client]:
    """A plain HTTP client of that server."""
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def serve(repository_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """`serve("--workers", "2", GANYMEDE_DRAIN="1")`: a server of one's own with options and settings."""

    def start(*options: str, **settings: str) -> AbstractContextManager[Server]:
        return serving(repository_folder, tmp_path_factory.mktemp("server") / "log.txt", *options, env=settings)

    return start

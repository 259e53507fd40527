"""A real browser before the real server and the models of this repository.

Debian's Chromium is driven by Playwright, on a desktop and on a phone. A test fails where the page wrote an error to
its console, or asked anybody but its server.
"""

import os
import shutil
from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Browser, sync_playwright

import tools
from playground.screen import EACH_SIZE, Screen
from server import ROOT, Server, serving

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WANTED = "the playground's tests need Chromium: apt-get install chromium"
# The sandbox needs rights that containers lack; the rest keeps the browser from calling home.
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update"]  # fmt: skip


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if CHROMIUM is None:
        terminalreporter.write_line(f"tests/playground was skipped: {WANTED}", yellow=True)


@pytest.fixture(scope="session", autouse=True)
def stop_at_once() -> None:
    os.environ["GANYMEDE_DRAIN"] = "0"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(ROOT / "models", tmp_path_factory.mktemp("server") / "log.txt") as server:
        yield server


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")  # Playwright's event loop runs for as long, and other tests have their own
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        (pytest.fail if tools.ALL else pytest.skip)(WANTED)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=EACH_SIZE)
def screen(request: pytest.FixtureRequest, browser: Browser, server: Server, http: httpx2.Client) -> Iterator[Screen]:
    """The playground, on a desktop and on a phone."""
    with Screen.on(browser, request.param, server.url, http) as screen:
        yield screen
        screen.is_clean()


@pytest.fixture
def desktop(browser: Browser, server: Server, http: httpx2.Client) -> Iterator[Screen]:
    with Screen.on(browser, "desktop", server.url, http) as screen:
        yield screen
        screen.is_clean()

"""README.md does what it says: its commands are run, in the order of the page, in a copy of the working folder.

Blocks tagged `bash` and `python` are commands, and a comment on the line before one may say how it is run:

    <!-- test: serves -->          runs in the background, at a free PORT, until the last block is through
    <!-- test: with ARGUMENTS -->  ARGUMENTS are appended to its one command, to make it short
    <!-- test: not run, REASON --> for what cannot be run here

Blocks of LISTINGS are there to be read. Any other block, and any other comment, is an error.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from server import STOP_SECONDS, Server, free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ADDRESS = "127.0.0.1:3000"  # where `make serve` listens, and so what the page says
LISTINGS = {"json", "text", "toml", "yaml"}
TIMEOUT = 300  # seconds a block may take
DIRECTIVE = re.compile(r"serves|with \S.*|not run, \S.*")
FENCE = re.compile(
    r"^(?: *<!-- test: (?P<directive>[^\n]*?) -->\n)?"
    r"(?P<indent> *)```(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.M | re.S,
)


class Block(NamedTuple):
    line: int
    language: str
    code: str
    directive: str

    def __str__(self) -> str:
        return f"line {self.line}"

    @property
    def runs(self) -> bool:
        return self.language not in LISTINGS and not self.directive.startswith(("serves", "not run"))


def blocks(page: str) -> list[Block]:
    return [
        Block(
            line=page.count("\n", 0, found.start("indent")) + 1,
            language=found["language"],
            code=textwrap.dedent(found["code"]),
            directive=found["directive"] or "",
        )
        for found in FENCE.finditer(page)
    ]


def mistakes(page: str) -> list[str]:
    """What stands on the page and is neither run nor said not to be."""
    found = []
    for block in blocks(page):
        if block.language not in {"bash", "python", *LISTINGS}:
            found.append(f"line {block.line}: a block of {block.language or 'no language'} is not run")
        if block.directive and not DIRECTIVE.fullmatch(block.directive):
            found.append(f"line {block.line}: `test: {block.directive}` says nothing")
        if block.directive.startswith("with") and len(re.findall(r"[^\\]\n", block.code)) != 1:
            found.append(f"line {block.line}: `with` needs a block of one command")
    if page.count("```") != 2 * len(blocks(page)):
        found.append("a fence is not closed, or shares its line")
    if page.count("<!-- test:") != sum(bool(block.directive) for block in blocks(page)):
        found.append("a `test:` comment is not on the line before a block")
    if sum(block.directive == "serves" for block in blocks(page)) != 1:
        found.append("one block, and no other, is the one that serves")
    return found


def command(block: Block, address: str) -> list[str]:
    code = block.code.replace(ADDRESS, address)
    if block.directive.startswith("with "):
        code = f"{code.rstrip()} {block.directive.removeprefix('with ')}\n"
    return [".venv/bin/python", "-c", code] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", code]


class Workspace(NamedTuple):
    folder: Path
    address: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A copy of the working folder whose .venv is the one that runs this test, and the page's server within it."""
    home = tmp_path_factory.mktemp("readme")
    folder, log, port = home / "ganymede", home / "server.log", free_port()
    shutil.copytree(ROOT, folder, ignore=ignored)
    (folder / ".venv").symlink_to(sys.prefix)
    (home / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")  # an error reply fails the block
    environment = os.environ | {"CURL_HOME": str(home), "BENTOML_HOME": str(home / "bentoml"), "PORT": str(port)}
    serves = next(block for block in blocks(README) if block.directive == "serves")
    with log.open("wb") as stream:
        # A session of its own is what a terminal gives its foreground job: Ctrl-C reaches all of its processes.
        process = subprocess.Popen(
            command(serves, ADDRESS), stdout=stream, stderr=stream, cwd=folder, env=environment, start_new_session=True
        )
    try:
        Server(process, port, log).wait_until_ready()
        yield Workspace(folder, f"127.0.0.1:{port}", environment)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(STOP_SECONDS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert "***" not in log.read_text(), "Ctrl-C does not stop the page's server cleanly"


def ignored(folder: str, names: list[str]) -> list[str]:
    """Leaves out what git does not keep, so that the page works in a fresh clone."""
    at_top = {".git", ".venv", ".uv", "data", "runs", "build", "dist"} if Path(folder) == ROOT else set()
    return [name for name in names if name in at_top | {"__pycache__", ".pytest_cache", ".ruff_cache"}]


def test_every_block_is_run_or_said_not_to_be():
    assert mistakes(README) == []


@pytest.mark.parametrize("block", [block for block in blocks(README) if block.runs], ids=str)
def test_a_block_runs_and_the_pictures_it_writes_open(block: Block, workspace: Workspace):
    before = time.time()
    done = subprocess.run(
        command(block, workspace.address),
        cwd=workspace.folder,
        env=workspace.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"README.md line {block.line}:\n{block.code}\n{done.stdout.decode(errors='replace')}"
    for file in workspace.folder.rglob("*"):
        if file.suffix in {".png", ".jpg", ".gif", ".webp"} and file.stat().st_mtime >= before:
            with Image.open(file) as picture:
                picture.load()


def test_what_the_page_links_to_is_there():
    targets = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", README)
    links = [markdown or html for markdown, html in targets]
    local = [link.partition("#")[0] for link in links if not re.match(r"https?:|mailto:|#", link)]
    assert [link for link in local if not (ROOT / link).exists()] == []
    assert any(link.endswith((".png", ".webp", ".gif")) for link in local), "the page shows no picture"


def test_the_blocks_of_a_page_are_found_with_how_they_are_run():
    page = (
        "<!-- test: serves -->\n```bash\nmake serve\n```\n\n"
        "```bash\ncurl \\\n  http://127.0.0.1:3000/v1/models\n```\n\n"
        "<!-- test: with total_kimg=1 -->\n```bash\npython -m training train \\\n  dcgan-mnist\n```\n\n"
        "1. Or:\n   ```python\n   if True:\n       print()\n   ```\n\n```json\n{}\n```\n"
    )
    serves, curl, train, python, listing = blocks(page)
    assert mistakes(page) == []
    assert [block.runs for block in blocks(page)] == [False, True, True, True, False]
    assert [block.line for block in blocks(page)] == [2, 6, 12, 18, 23]
    assert serves.directive == "serves"
    assert listing.language == "json"
    assert command(curl, "127.0.0.1:4000")[-1] == "curl \\\n  http://127.0.0.1:4000/v1/models\n"
    assert command(train, ADDRESS)[-1] == "python -m training train \\\n  dcgan-mnist total_kimg=1\n"
    assert command(python, ADDRESS) == [".venv/bin/python", "-c", "if True:\n    print()\n"]


@pytest.mark.parametrize(
    "addition",
    [
        "```\nmake test\n```\n",
        "```sh\nmake test\n```\n",
        "```bash\nmake test\n",
        "<!-- test: not run -->\n```bash\nmake test\n```\n",
        "<!-- test: skip -->\n```bash\nmake test\n```\n",
        "<!-- test: not run, it is this test -->\n\n```bash\nmake test\n```\n",
        "<!-- test: with kimg=1 -->\n```bash\ntrue\ntrue\n```\n",
        "<!-- test: serves -->\n```bash\nmake serve\n```\n",
    ],
)
def test_a_block_that_is_neither_run_nor_explained_is_a_mistake(addition: str):
    page = "<!-- test: serves -->\n```bash\nmake serve\n```\n\n"
    assert mistakes(page) == []
    assert mistakes(page + addition) != []

"""The playground as files: whole, from here alone, and small. What it does is held in tests/playground."""

import re

import httpx2
import pytest

from serving.api.web import pages

FOLDER = pages.FOLDER / "playground"
PAGE = "index.html"
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.name != PAGE)
MEDIA_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
MAX_BYTES = (
    130_000  # all parts, with those of views that nobody looked at; what a view loads is held by tests/playground
)
MAX_LINES = 300
MAX_COLUMNS = 120


def text_of(name: str) -> str:
    return (FOLDER / name).read_text()


def test_the_page_names_its_parts_and_nothing_elsewhere(http: httpx2.Client):
    page = http.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    found = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    for link in found:
        assert link == "docs" or link.removeprefix("playground/") in NAMES, link
        assert http.get(f"/{link}").status_code == 200


@pytest.mark.parametrize("name", NAMES)
def test_a_part_is_served_and_asks_for_parts_alone(http: httpx2.Client, name: str):
    reply = http.get(f"/playground/{name}")
    assert (reply.status_code, reply.content) == (200, (FOLDER / name).read_bytes())
    assert reply.headers["content-type"] == MEDIA_TYPES[name[name.rindex(".") :]]
    assert reply.headers["x-content-type-options"] == "nosniff"
    elsewhere = re.findall(r"https?://(?!www\.w3\.org/2000/svg)|@import|: *url\(|innerHTML|\beval\b", text_of(name))
    assert elsewhere == []


def test_every_module_is_reached_and_every_import_exists():
    imports = {
        name: set(re.findall(r'(?:from|import\() ?"\./([\w.]+)"|^import "\./([\w.]+)"', text_of(name), re.M))
        for name in NAMES
    }
    reached, new = set(), {"main.js"}
    while new:
        reached |= new
        new = {first or second for name in new for first, second in imports[name]} - reached
    assert reached == {name for name in NAMES if name.endswith(".js")}


def test_what_loads_first_is_preloaded_and_nothing_else():
    """The page names its first modules, so that they come together instead of one after the other."""

    def static(name: str) -> set[str]:
        return set(re.findall(r'^(?:import .*|\} )from "\./([\w.]+)"', text_of(name), re.M))

    first, new = set(), {"main.js", "sample.js"}
    while new:
        first |= new
        new = {each for name in new for each in static(name)} - first
    preloaded = set(re.findall(r'modulepreload" href="playground/([\w.]+)"', text_of(PAGE)))
    assert preloaded == first - {"main.js"}


def test_a_browser_is_told_to_run_and_ask_nothing_else(http: httpx2.Client):
    for path in ("/", "/playground/main.js"):
        headers = http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "connect-src 'self'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert not re.search(r"https?:|\*|unsafe|data:", policy)
        assert headers["referrer-policy"] == "no-referrer"
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", http.get("/").text)


@pytest.mark.parametrize("path", ["/", "/playground/main.js"])
def test_what_the_sender_holds_is_not_sent_again(http: httpx2.Client, path: str):
    first = http.get(path)
    assert first.headers["cache-control"] == "no-cache"
    for held in (first.headers["etag"], f'W/{first.headers["etag"]}, "other"'):
        again = http.get(path, headers={"If-None-Match": held})
        assert (again.status_code, again.content) == (304, b"")
    assert http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("file", ["none.js", "..%2fpages.py", "%2e%2e"])
def test_nothing_else_is_served(http: httpx2.Client, file: str):
    reply = http.get(f"/playground/{file}")
    assert (reply.status_code, reply.json()["code"]) == (404, "unknown-route")


def test_the_parts_are_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MAX_BYTES
    lines = {name: text_of(name).splitlines() for name in NAMES if not name.endswith(".svg")}
    assert {name: len(found) for name, found in lines.items() if len(found) > MAX_LINES} == {}
    assert [(name, line) for name, found in lines.items() for line in found if len(line) > MAX_COLUMNS] == []

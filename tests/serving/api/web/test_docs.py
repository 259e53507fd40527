"""The interactive page of the API: whole, and from here alone."""

import re

import httpx2


def test_the_page_and_all_its_parts_are_served_from_here(http: httpx2.Client):
    page = http.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert sorted(parts) == ["docs/docs.css", "docs/docs.js", "openapi.json", "playground/icon.svg"]
    for part in parts:
        reply = http.get(f"/{part}")
        assert reply.status_code == 200
        assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", reply.text if part.startswith("docs/") else "")


def test_a_browser_is_told_to_ask_nobody_else(http: httpx2.Client):
    policy = http.get("/docs").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy
    assert not re.search(r"https?:|\*|unsafe", policy)

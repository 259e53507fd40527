"""The images of the page that the README and docs/playground.md show. To make them again:

PLAYGROUND_PICTURES=docs/pictures .venv/bin/python -m pytest tests/playground/test_pictures.py
"""

import io
import os
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from playwright.sync_api import Browser

from playground.screen import Screen
from server import ROOT, Server

WALK = "keyframes=7:1,7:5,7:8,7:10,7:13&space=w&frame=33"
SHOTS: dict[str, tuple[str, str, str]] = {  # size, colour scheme, query
    "playground-sample": ("desktop", "light", "?view=sample&seed=7"),
    "playground-digits": ("desktop", "dark", "?view=digits&digits=31415926&variations=4&rolls=11.2&seed=7"),
    "playground-interpolate": ("desktop", "light", f"?view=interpolate&model=STYLE&{WALK}"),
    "playground-mix": ("desktop", "dark", "?view=mix&rows=1:0,2:0,3:0,4:0&columns=11:0,12:0,13:0,14:0,15:0,16:0,17:0"),
    "playground-phone": ("phone", "dark", "?view=mix&rows=1:0,2:0,3:0,4:0&columns=11:0,12:0,13:0,14:0,15:0"),
}
MAX_BYTES = 250_000
SHOWN = {"desktop": (1280, 800), "phone": (390, 844)}


@pytest.mark.parametrize("name", SHOTS)
def test_the_page_as_it_is_shown_in_the_documents(
    browser: Browser, server: Server, http: httpx2.Client, name: str, tmp_path: Path
):
    size, scheme, query = SHOTS[name]
    options: dict[str, Any] = {"color_scheme": scheme}
    with Screen.on(browser, size, server.url, http, **options) as screen:
        screen.open(query.replace("STYLE", screen.style_model))
        screen.page.wait_for_load_state("networkidle")
        shot = Image.open(io.BytesIO(screen.page.screenshot()))
        screen.is_clean()
    folder = Path(os.environ.get("PLAYGROUND_PICTURES", tmp_path))
    shot.convert("RGB").save(folder / f"{name}.png", optimize=True)
    assert (folder / f"{name}.png").stat().st_size < MAX_BYTES
    with Image.open(ROOT / "docs" / "pictures" / f"{name}.png") as kept:
        assert kept.size == shot.size == SHOWN[size]

"""The page as a whole: what it weighs, what it says when something is wrong, and who can use it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

import pictures
from playground.screen import EACH_SIZE, Screen
from server import ROOT, Server, running, serve, serving

VIEWS = ["sample", "digits", "interpolate", "mix", "wander"]
MAX_BYTES = 100_000
MODELS = ROOT / "models"


def problems(screen: Screen) -> list[str]:
    """What axe finds."""
    found = Axe().run(screen.page).response
    assert len(found["passes"]) > 10, "it looked"
    return [f"{each['id']}: {node['html'][:200]}" for each in found["violations"] for node in each["nodes"]]


@pytest.mark.parametrize("view", VIEWS)
def test_the_page_loads_under_100_kb(desktop: Screen, view: str):
    desktop.open(f"?view={view}")
    parts = {path: size for path, size in desktop.loaded.items() if path == "/" or path.startswith("/playground/")}
    assert len(parts) > 20 and all(parts.values())
    assert sum(parts.values()) < MAX_BYTES, parts


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", EACH_SIZE)
def test_axe_finds_no_violation(browser: Browser, server: Server, http: httpx2.Client, size: str, scheme: str):
    with Screen.on(browser, size, server.url, http, color_scheme=scheme) as screen:
        for view in VIEWS:
            screen.open(f"?view={view}&playing=")
            screen.settings()
            assert problems(screen) == [], view
        screen.request_text("Python")
        screen.page.get_by_role("link", name="Sample").click()
        screen.page.locator(".grid .tile.ready").first.click()
        expect(screen.page.get_by_role("dialog")).to_be_visible()
        assert problems(screen) == [], "a picture's popup"
        screen.page.keyboard.press("Escape")
        screen.page.get_by_role("button", name="Card of").first.click()
        expect(screen.page.locator(".sheet .samples canvas").first).to_be_visible()
        assert problems(screen) == [], "a model's card"
        screen.is_clean()


@pytest.mark.parametrize("view", VIEWS)
def test_it_fits_the_width_of_a_phone(browser: Browser, server: Server, http: httpx2.Client, view: str):
    with Screen.on(browser, "phone", server.url, http) as screen:
        screen.open(f"?view={view}")
        screen.settings()
        assert screen.page.evaluate("document.documentElement.scrollWidth") <= 390
        screen.is_clean()


def test_the_page_runs_no_script_but_its_own(desktop: Screen):
    desktop.open()
    ran = desktop.page.evaluate(
        """() => {
            const script = document.createElement("script");
            try { script.textContent = "window.ran = 1"; document.head.append(script); } catch { return "refused"; }
            return window.ran ?? "refused";
        }"""
    )
    assert ran == "refused"
    assert desktop.complaints, "the browser says so"
    desktop.complaints.clear()


def test_back_and_forward_go_through_what_was_shown(screen: Screen):
    screen.open("?seed=7")
    for name, title in (("Digits", "digits"), ("Mix", "mix")):
        screen.page.get_by_role("link", name=name, exact=True).click()
        screen.state_becomes("view", title)
        expect(screen.page).to_have_title(f"{name} · Ganymede")
    screen.page.go_back()
    expect(screen.page.locator(".paper .drawn").first).to_be_visible()
    screen.page.go_back()
    expect(screen.page.locator(".grid .drawn").first).to_be_visible()
    screen.page.go_forward()
    screen.state_becomes("view", "digits")
    expect(screen.page.get_by_role("link", name="Digits")).to_have_attribute("aria-current", "page")


def test_a_model_card_opens_with_metrics_and_images_and_a_url(screen: Screen):
    screen.open()
    style = screen.style_model
    screen.page.locator(f".card[data-model={style}]").get_by_role("button", name="Card of").click()
    screen.state_becomes("card", style)
    model = screen.http.get(f"/v1/models/{style}").json()
    sheet = screen.page.get_by_role("dialog", name=model["name"])
    expect(sheet).to_contain_text(model["sha256"])
    for metric in model["metrics"]:
        expect(sheet.locator("tbody")).to_contain_text(metric["protocol"])
    fid = next(metric for metric in model["metrics"] if metric["name"] == "fid")
    expect(sheet.locator("tbody")).to_contain_text(f"{fid['value']:.2f}")
    truth = screen.sample(model=style, n=60, seed=0)
    expect(sheet.locator(".samples canvas")).to_have_count(60)
    screen.shows(sheet.locator(".samples canvas").nth(59), truth[59])
    screen.page.reload()
    expect(sheet).to_be_visible()
    screen.page.get_by_role("button", name="Close").click()
    screen.state_becomes("card", None)


def test_cards_tell_name_data_size_and_fid(desktop: Screen):
    desktop.open()
    for model in desktop.http.get("/v1/models").json()["models"]:
        card = desktop.page.locator(f".card[data-model={model['id']}]")
        size = sum(file["size"] for file in model["files"].values()) / 1e6
        fid = next(metric["value"] for metric in model["metrics"] if metric["name"] == "fid")
        for text in (model["name"], model["dataset"]["name"], f"{size:.1f} MB", f"FID {fid:.1f}"):
            expect(card).to_contain_text(text)


@pytest.mark.parametrize("view", VIEWS)
def test_the_request_of_a_view_works_as_curl_python_and_json(desktop: Screen, view: str, tmp_path: Path):
    desktop.open(f"?view={view}&count=16&playing=")
    desktop.page.wait_for_load_state("networkidle")  # the grid goes on until the screen is full
    curl, program, body = (desktop.request_text(form) for form in ("curl", "Python", "JSON"))
    done = subprocess.run(["bash", "-c", curl], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    by_curl = pictures.of_npy((tmp_path / "pictures.npy").read_bytes())

    program += "\n    pictures.array.tofile('found.bin')\n"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "found.bin").read_bytes() == by_curl.tobytes()

    route = {"wander": "interpolate", "mix": "style-mix"}.get(view, view)
    assert (desktop.api(f"/v1/{route}", **json.loads(body)) == by_curl).all()


def test_the_request_is_copied(browser: Browser, server: Server, http: httpx2.Client):
    with Screen.on(browser, "phone", server.url, http, permissions=["clipboard-read", "clipboard-write"]) as screen:
        screen.open()
        text = screen.request_text("Python")
        screen.page.get_by_role("button", name="Copy").click()
        screen.state_becomes("form", "Python")
        assert screen.page.evaluate("navigator.clipboard.readText()").strip() == text.strip()
        expect(screen.page.locator("#toast")).to_have_text("Copied as Python.")
        screen.is_clean()


def test_the_reference_is_linked(desktop: Screen):
    desktop.open()
    desktop.page.get_by_role("link", name="API docs").click()
    expect(desktop.page).to_have_title("Ganymede API")


@pytest.mark.parametrize(
    ("query", "field", "body"),
    [
        ("?seed=abc", "Seed", {"seed": "abc"}),
        (f"?seed={2**64}", "Seed", {"seed": 2**64}),
        ("?start=-1", "From index", {"seed": 7, "start": -1}),
        ("?count=1000000000", "Pictures a request", {"seed": 7, "n": 10**9}),
        ("?model=STYLE&truncation=much", "Truncation", {"seed": 7, "truncation": "much"}),
    ],
)
def test_an_error_is_shown_as_the_server_says_it_at_its_field(
    desktop: Screen, query: str, field: str, body: dict[str, object]
):
    desktop.page.goto(f"{desktop.url}/{query.replace('STYLE', desktop.style_model)}")
    said = desktop.http.post("/v1/sample", json=body).json()["detail"]
    expect(desktop.page.locator("#notice")).to_contain_text(said)
    wrong = desktop.settings().get_by_label(field).first
    expect(wrong).to_have_attribute("aria-invalid", "true")
    expect(wrong).to_have_attribute("aria-describedby", "notice")
    if field == "Pictures a request":
        wrong.select_option("16")
    else:
        wrong.fill("0.5" if field == "Truncation" else "5")
    expect(desktop.page.locator("#notice")).to_be_hidden()
    expect(desktop.page.locator(".grid .drawn").first).to_be_visible()
    expect(wrong).not_to_have_attribute("aria-invalid", "true")
    assert all("422" in complaint for complaint in desktop.complaints)
    desktop.complaints.clear()


def test_an_unknown_model_is_named_by_the_server(desktop: Screen):
    desktop.page.goto(f"{desktop.url}/?model=nobody")
    expect(desktop.page.locator("#notice")).to_contain_text('`model` (="nobody") must be one of')
    desktop.complaints.clear()


def test_a_wrong_request_is_sent_once_and_its_error_stays(desktop: Screen):
    asked: list[str] = []
    desktop.page.on("request", lambda request: asked.append(request.post_data or ""))
    desktop.page.goto(f"{desktop.url}/?start=-1&count=256")
    expect(desktop.page.locator("#notice")).to_contain_text("`start` (=-1)")
    desktop.page.wait_for_timeout(1500)
    assert len([body for body in asked if '"start": -1' in body]) == 1

    desktop.page.goto(f"{desktop.url}/?view=interpolate&keyframes=abc:0,8:0")
    expect(desktop.page.locator("#notice")).to_be_visible()
    desktop.page.wait_for_timeout(1500)  # the tray's images have come
    expect(desktop.page.locator("#notice")).to_contain_text("abc")
    desktop.page.get_by_role("link", name="Sample").click()
    expect(desktop.page.locator(".grid .drawn").first).to_be_visible()
    expect(desktop.page.locator("#notice")).to_be_hidden()
    assert all("422" in complaint for complaint in desktop.complaints)
    desktop.complaints.clear()


@pytest.mark.slow
def test_what_is_refused_for_now_is_said_and_asked_for_again(browser: Browser, http: httpx2.Client, tmp_path: Path):
    with (
        serving(MODELS, tmp_path / "log.txt", env={"GANYMEDE_RATE_LIMIT": "10"}) as slow,
        Screen.on(browser, "phone", slow.url, http) as screen,
    ):
        screen.page.goto(slow.url)
        expect(screen.page.locator("#notice")).to_contain_text("The limit is 10 images per second; retry in")
        tiles = screen.page.locator(".grid .tile.ready")
        screen.becomes(lambda: tiles.count() >= 128, True, seconds=30)
        screen.shows(tiles.nth(127).locator("canvas"), screen.sample(model=screen.digit_model, seed=7, start=127)[0])
        assert all("429" in complaint for complaint in screen.complaints)


@pytest.mark.slow
def test_while_the_server_is_away_the_page_says_so_and_resumes(browser: Browser, http: httpx2.Client, tmp_path: Path):
    with (
        serving(MODELS, tmp_path / "first.txt") as first,
        Screen.on(browser, "desktop", first.url, http) as screen,
    ):
        screen.open("?seed=7")
        first.stop()
        away = screen.page.get_by_role("alert").filter(has_text="The server does not answer.")
        expect(away).to_be_visible(timeout=15_000)
        screen.page.get_by_role("link", name="Digits").click()
        with running(serve(MODELS, first.port), first.port, tmp_path / "second.txt"):
            expect(away).to_be_hidden(timeout=15_000)
            expect(screen.page.locator(".paper .drawn").first).to_be_visible()
            truth = screen.api("/v1/digits", digits="3141592653", rows=4, seed=7)
            screen.shows(screen.page.locator(".paper canvas").first, truth[0])
        assert all("ERR_CONNECTION" in complaint or "503" in complaint for complaint in screen.complaints)


@pytest.mark.slow
def test_a_server_back_with_other_models_is_read_anew(browser: Browser, http: httpx2.Client, tmp_path: Path):
    fewer = shutil.copytree(MODELS, tmp_path / "models", ignore=shutil.ignore_patterns("cgan-mnist"))
    with (
        serving(MODELS, tmp_path / "first.txt") as first,
        Screen.on(browser, "desktop", first.url, http) as screen,
    ):
        screen.open("?seed=7")
        assert screen.page.locator(".card[data-model=cgan-mnist]").count() == 1
        first.stop()
        away = screen.page.get_by_role("alert").filter(has_text="The server does not answer.")
        expect(away).to_be_visible(timeout=15_000)
        with running(serve(fewer, first.port), first.port, tmp_path / "second.txt"):
            expect(screen.page.locator(".card[data-model=cgan-mnist]")).to_have_count(0, timeout=15_000)
            expect(screen.page.locator(".grid .drawn").first).to_be_visible()
            expect(screen.page.locator("#notice")).to_be_hidden()
        screen.complaints.clear()


@pytest.mark.slow
def test_a_key_is_asked_for_sent_and_never_copied(browser: Browser, http: httpx2.Client, tmp_path: Path):
    keys = tmp_path / "keys.txt"
    keys.write_text(f"{hashlib.sha256(b'sesame').hexdigest()} alice\n")
    settings = {"GANYMEDE_API_KEYS_FILE": str(keys)}
    with (
        serving(MODELS, tmp_path / "log.txt", env=settings) as closed,
        Screen.on(browser, "phone", closed.url, http) as screen,
    ):
        screen.page.goto(closed.url)
        dialog = screen.page.get_by_role("dialog", name="API key")
        expect(dialog).to_contain_text("`Authorization` must be `Bearer` and an API key")
        assert problems(screen) == []
        dialog.get_by_label("Key").fill("sesame\u201d")  # no header can carry it
        dialog.get_by_role("button", name="Use this key").click()
        expect(dialog).to_contain_text("A key has letters, digits and signs of ASCII alone")
        dialog.get_by_label("Key").fill("wrong")
        dialog.get_by_role("button", name="Use this key").click()
        expect(dialog).to_be_visible()
        dialog.get_by_label("Key").fill("sesame")
        dialog.get_by_role("button", name="Use this key").click()
        expect(screen.page.locator(".grid .drawn").first).to_be_visible()
        curl = screen.request_text("curl")
        assert "Bearer $GANYMEDE_KEY" in curl and "sesame" not in curl
        screen.page.reload()
        expect(screen.page.locator(".grid .drawn").first).to_be_visible()
        assert "sesame" not in screen.page.url
        assert all("401" in complaint for complaint in screen.complaints)

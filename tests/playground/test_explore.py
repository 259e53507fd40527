"""Explore: sliders for semantic directions, by mouse, keyboard and touch; and the recording of a walk."""

from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from playground.screen import Screen

MODEL = "stylegan-lite-critters"
VIEW = f"?view=explore&model={MODEL}"


def slider(screen: Screen, name: str) -> Locator:
    return screen.page.get_by_label(name, exact=True)


def image(screen: Screen) -> Locator:
    return screen.page.locator(".screen")


def test_a_slider_shows_the_edited_image_and_the_url_holds_it(screen: Screen):
    screen.open(VIEW)
    plain = screen.sample(model=MODEL, seed=7)[0]
    screen.shows(image(screen), plain)
    names = screen.page.locator(".sliders .field span").all_inner_texts()
    methods = {each["name"]: each["method"] for each in screen.http.get(f"/v1/models/{MODEL}").json()["directions"]}
    assert methods[names[0]] == "attribute" and len(names) == len(methods)
    slider(screen, names[0]).fill("3")
    slider(screen, "sefa-0").fill("-1.5")
    edits = [{"direction": names[0], "strength": 3}, {"direction": "sefa-0", "strength": -1.5}]
    truth = screen.sample(model=MODEL, seed=7, edits=edits)[0]
    screen.shows(image(screen), truth)
    screen.state_becomes("edits", f"{names[0]}:3,sefa-0:-1.5")
    screen.open(screen.page.url.removeprefix(f"{screen.url}/"))
    screen.shows(image(screen), truth)
    expect(slider(screen, "sefa-0")).to_have_value("-1.5")
    screen.page.get_by_role("button", name="Reset").click()
    screen.shows(image(screen), plain)
    expect(slider(screen, "sefa-0")).to_have_value("0")


def test_the_keyboard_moves_a_slider(desktop: Screen):
    desktop.open(VIEW)
    slider(desktop, "sefa-0").focus()
    for _ in range(5):
        desktop.page.keyboard.press("ArrowRight")
    desktop.state_becomes("edits", "sefa-0:0.5")
    edits = [{"direction": "sefa-0", "strength": 0.5}]
    desktop.shows(image(desktop), desktop.sample(model=MODEL, seed=7, edits=edits)[0])


def test_touch_and_mouse_move_a_slider(screen: Screen):
    screen.open(VIEW)
    target = slider(screen, "sefa-coarse-0")
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2
    if screen.page.evaluate("matchMedia('(pointer: coarse)').matches"):
        screen.page.touchscreen.tap(x, y)
    else:
        screen.page.mouse.click(x, y)
    screen.becomes(lambda: (screen.state("edits") or "").startswith("sefa-coarse-0:"), True)
    strength = float((screen.state("edits") or "").partition(":")[2])
    assert 2 < strength < 4
    edits = [{"direction": "sefa-coarse-0", "strength": strength}]
    screen.shows(image(screen), screen.sample(model=MODEL, seed=7, edits=edits)[0])


def test_the_last_of_many_moves_is_shown(desktop: Screen):
    desktop.open(VIEW)
    desktop.page.evaluate(
        """async () => {
            const input = document.querySelector('[data-direction="sefa-0"]');
            for (let i = 1; i <= 60; i += 1) {
                input.value = String(i / 20);
                input.dispatchEvent(new Event("input", { bubbles: true }));
                await new Promise((resolve) => setTimeout(resolve, 8));
            }
        }"""
    )
    edits = [{"direction": "sefa-0", "strength": 3}]
    desktop.shows(image(desktop), desktop.sample(model=MODEL, seed=7, edits=edits)[0])
    updates = int(image(desktop).get_attribute("data-updates") or 0)
    assert 2 <= updates <= 61


def test_the_request_can_be_copied(desktop: Screen):
    desktop.open(f"{VIEW}&edits=sefa-0:2")
    assert '"edits": [{"direction": "sefa-0", "strength": 2}]' in desktop.request_text("curl")
    assert 'edits=[("sefa-0", 2)]' in desktop.request_text("Python")


def test_a_walk_is_recorded_as_webm(desktop: Screen, tmp_path: Path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    desktop.open("?view=interpolate&keyframes=7:0,8:0&frames=60&loop=")
    desktop.page.wait_for_load_state("networkidle")
    posts: list[str] = []
    desktop.page.on("request", lambda request: posts.append(request.url) if request.method == "POST" else None)
    with desktop.page.expect_download() as download:
        desktop.page.get_by_role("button", name="Record as WebM").click()
    download.value.save_as(tmp_path / "walk.webm")
    assert download.value.suggested_filename.endswith(".webm") and posts == []
    with av.open(str(tmp_path / "walk.webm")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) > 5 and frames[0].width == frames[0].height >= 200 and frames[0].width % 2 == 0
    assert frames[-1].time == pytest.approx(2, abs=1)

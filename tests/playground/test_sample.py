"""Sample: a grid that fills, goes on without end, and gives its images to the other views."""

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from playground.screen import Screen, canvases, pixels, rgb

TOP = 2**64 - 1


def test_the_grid_shows_what_the_api_returns_for_its_addresses(screen: Screen):
    screen.open("?seed=11&count=16")
    grid = screen.page.locator(".grid")
    expect(grid.locator(".tile.ready").nth(15)).to_be_attached()
    truth = screen.sample(model=screen.digit_model, n=16, seed=11)
    for i in (0, 7, 15):
        screen.shows(grid.locator("canvas").nth(i), truth[i])
    assert grid.locator("canvas").nth(7).get_attribute("data-address") == "11:7"
    picture = screen.http.get(f"/v1/images/{screen.digit_model}/11/7.png").content
    assert len(picture) > 100


def test_scrolling_goes_through_the_seed_and_reload_stays(screen: Screen):
    screen.open("?seed=3&count=64")
    tiles = screen.page.locator(".grid .tile.ready")
    before = tiles.count()
    for _ in range(6):
        screen.page.mouse.move(200, 600)
        screen.page.evaluate("scrollBy(0, 900)")
        screen.page.wait_for_timeout(100)
    screen.becomes(lambda: tiles.count() > before + 64, True)
    last = tiles.count() - 1
    truth = screen.sample(model=screen.digit_model, seed=3, start=last)
    screen.shows(tiles.nth(last).locator("canvas"), truth[0])
    screen.becomes(lambda: int(screen.state("start") or 0) > 0, True)
    screen.page.wait_for_timeout(300)
    start = int(screen.state("start") or 0)
    screen.open(screen.page.url.removeprefix(f"{screen.url}/"))
    screen.shows(tiles.first.locator("canvas"), screen.sample(model=screen.digit_model, seed=3, start=start)[0])
    screen.page.get_by_role("button", name="Earlier pictures").click()
    screen.state_becomes("start", None if start <= 64 else str(start - 64))


def test_seed_index_class_and_count_are_fields(screen: Screen):
    screen.open(f"?model={screen.digit_model}")
    settings = screen.settings()
    settings.get_by_label("Seed", exact=True).fill("123456789012345678")
    settings.get_by_label("From index").fill("40")
    settings.get_by_label("Class").select_option("3")
    settings.get_by_label("Pictures a request").select_option("16")
    screen.state_becomes("count", "16")
    truth = screen.sample(model=screen.digit_model, n=16, seed=123456789012345678, start=40, labels=3)
    for i in (0, 15):
        screen.shows(screen.page.locator(".grid canvas").nth(i), truth[i])
    settings.get_by_role("button", name="Draw a new seed").click()
    screen.becomes(lambda: screen.state("seed") not in (None, "123456789012345678"), True)
    drawn = int(screen.state("seed") or 0)
    assert drawn < 2**53
    screen.shows(
        screen.page.locator(".grid canvas").first, screen.sample(model=screen.digit_model, seed=drawn, labels=3)[0]
    )


def test_a_model_is_chosen_by_card_and_only_styles_truncate(screen: Screen):
    screen.open("?seed=5")
    style = screen.style_model
    assert screen.settings().get_by_label("Truncation").is_hidden()
    screen.page.locator(f".card[data-model={style}] .choose").click()
    screen.state_becomes("model", style)
    first = screen.page.locator(".grid canvas").first
    screen.shows(first, screen.sample(model=style, seed=5)[0])
    screen.settings().get_by_label("Truncation").fill("0.3")
    screen.shows(first, screen.sample(model=style, seed=5, truncation=0.3)[0])
    screen.page.go_back()
    screen.state_becomes("model", None)
    screen.shows(first, screen.sample(model=screen.digit_model, seed=5)[0])


def test_seeds_and_indices_have_64_bits(desktop: Screen):
    desktop.open(f"?seed={TOP}&start={2**63}&count=16")
    truth = desktop.sample(model=desktop.digit_model, n=16, seed=TOP, start=2**63)
    desktop.shows(desktop.page.locator(".grid canvas").nth(9), truth[9])
    asked = re.search(r'"seed": (\d+), "start": (\d+)', desktop.request_text("curl"))
    assert asked is not None and int(asked[1]) == TOP
    assert (int(asked[2]) - 2**63) % 16 == 0, "the request of a later page of the grid"


def test_a_picture_becomes_the_start_of_a_walk(screen: Screen):
    screen.open("?seed=21&count=16&label=4")
    screen.page.get_by_label("Picture 21:5@4").click()
    screen.page.get_by_role("button", name="Start a walk here").click()
    screen.state_becomes("view", "interpolate")
    assert screen.state("keyframes") == "21:5@4,21:6@4,21:7@4,21:8@4"
    assert screen.state("playing") == "1"
    first = screen.page.locator(".strip .tile canvas").first
    screen.shows(first, screen.sample(model=screen.digit_model, seed=21, start=5, labels=4)[0])


def test_an_image_becomes_a_keyframe_or_a_source_of_a_mix(screen: Screen):
    style = screen.style_model
    screen.open(f"?model={style}&seed=21&count=16")
    tile = screen.page.get_by_role("button", name="Picture 21:3", exact=True)
    for action, name in (
        ("Add as keyframe", "keyframes"),
        ("Mix: add as row", "rows"),
        ("Mix: add as column", "columns"),
    ):
        tile.click()
        screen.page.get_by_role("button", name=action).click()
        screen.becomes(lambda name=name: (screen.state(name) or "").endswith(",21:3"), True)
    screen.page.get_by_role("link", name="Mix").click()
    expect(screen.page.get_by_label("Row 5, picture 21:3. Change")).to_be_visible()
    expect(screen.page.get_by_label("Column 6, picture 21:3. Change")).to_be_attached()
    screen.page.get_by_role("link", name="Sample").click()
    tile.click()
    screen.page.get_by_role("button", name="Wander from here").click()
    screen.state_becomes("view", "wander")
    assert screen.state("from") == "21:3"


def test_the_grid_is_walked_with_keys_alone(desktop: Screen):
    desktop.open("?seed=7&count=16")
    expect(desktop.page.locator(".grid .tile.ready").nth(15)).to_be_attached()
    desktop.page.locator(".grid .tile").first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowUp", "ArrowLeft", "Enter"):
        desktop.page.keyboard.press(key)
    expect(desktop.page.get_by_role("dialog", name="Picture 7:1")).to_be_visible()
    desktop.page.keyboard.press("ArrowDown")
    expect(desktop.page.get_by_role("button", name="Wander from here")).to_be_focused()
    desktop.page.keyboard.press("Escape")
    expect(desktop.page.get_by_label("Picture 7:1,")).to_be_focused()


def test_the_focused_image_is_not_beneath_a_sticky_edge(desktop: Screen):
    desktop.open("?seed=7&count=256")
    expect(desktop.page.locator(".grid .tile.ready").nth(200)).to_be_attached()
    desktop.page.locator(".grid .tile").first.focus()
    for _ in range(10):
        desktop.page.keyboard.press("ArrowDown")
        desktop.page.wait_for_timeout(50)
        seen = desktop.page.evaluate(
            """() => {
                const { left, top, width, height } = document.activeElement.getBoundingClientRect();
                const at = (share) => document.elementFromPoint(left + width / 2, top + share * height);
                return [0.15, 0.5, 0.85].every((share) => document.activeElement.contains(at(share)));
            }"""
        )
        assert seen, desktop.page.evaluate("document.activeElement.getAttribute('aria-label')")


def test_an_edited_field_leaves_scrolling_and_back_alone(desktop: Screen):
    desktop.open("?seed=7")
    index = desktop.settings().get_by_label("From index")
    index.click()
    index.fill("10")
    desktop.state_becomes("start", "10")
    expect(desktop.page.get_by_label("Picture 7:10,")).to_be_attached()
    desktop.page.mouse.move(300, 500)
    for _ in range(4):
        desktop.page.mouse.wheel(0, 400)
        desktop.page.wait_for_timeout(150)
    desktop.becomes(lambda: int(desktop.state("start") or 0) > 30, True)
    desktop.page.locator(".grid .tile.ready:visible").nth(60).click()
    expect(desktop.page.get_by_role("button", name="Wander from here")).to_be_visible()
    assert int(desktop.state("start") or 0) > 30

    desktop.open()
    seed = desktop.settings().get_by_label("Seed", exact=True)
    desktop.settings().get_by_role("button", name="Draw a new seed").click()
    desktop.becomes(lambda: desktop.state("seed") is not None, True)
    seed.click()
    seed.fill(" 055 ")
    desktop.state_becomes("seed", "55")
    desktop.page.go_back()
    desktop.state_becomes("seed", None)
    seed.blur()
    desktop.page.wait_for_timeout(400)
    assert desktop.state("seed") is None and seed.input_value() == "7"


@pytest.mark.parametrize("scale", [8])
def test_a_picture_opens_as_a_png_of_its_address(desktop: Screen, scale: int):
    desktop.open("?seed=7&count=16")
    desktop.page.get_by_label("Picture 7:2,").click()
    href = desktop.page.get_by_role("link", name="Open as PNG").get_attribute("href")
    assert href is not None and href.startswith(f"v1/images/{desktop.digit_model}/7/2.png")
    assert desktop.http.get(f"/{href}").headers["content-type"] == "image/png"


def test_the_grid_holds_different_pictures(desktop: Screen):
    desktop.open("?seed=7&count=16")
    found = canvases(desktop.page.locator(".grid"))[:16]
    truth = rgb(desktop.sample(model=desktop.digit_model, n=16, seed=7))
    assert len({picture.tobytes() for picture in found}) == 16
    assert np.array_equal(pixels(desktop.page.locator(".grid canvas").nth(1)), truth[1])

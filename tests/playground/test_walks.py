"""Interpolate and Wander: keyframes by hand, frames that are the API's, and time that is kept."""

import httpx2
import pytest
from playwright.sync_api import Browser, Locator, expect

import pictures
from playground.screen import Screen, addresses
from server import Server

WALK = "?view=interpolate&keyframes=7:0,8:0,9:0&frames=60"
KEYFRAMES = [7, 8, 9]


def slider(screen: Screen) -> Locator:
    return screen.page.get_by_label("Frame", exact=True)


def frame(screen: Screen) -> Locator:
    return screen.page.locator(".screen")


def keyframes(screen: Screen) -> list[tuple[int, int]]:
    return [(address[0], address[1]) for address in addresses(screen.state("keyframes"))]


def test_scrubbing_shows_the_frames_of_the_api(screen: Screen):
    screen.open(WALK)
    truth = screen.api("/v1/interpolate", model=screen.digit_model, keyframes=KEYFRAMES, frames=60, loop=True)
    for i in (0, 17, 59):
        slider(screen).fill(str(i))
        screen.shows(frame(screen), truth[i])
    screen.state_becomes("frame", "59")
    screen.open(screen.page.url.removeprefix(f"{screen.url}/"))
    screen.shows(frame(screen), truth[59])


@pytest.mark.parametrize(("method", "space"), [("lerp", "z"), ("slerp", "w"), ("lerp", "w")])
def test_method_space_loop_and_frames_are_settings(desktop: Screen, method: str, space: str):
    style = desktop.style_model
    desktop.open(f"{WALK}&model={style}&frame=31")
    settings = desktop.settings()
    settings.get_by_role("button", name=method, exact=True).click()
    settings.get_by_role("button", name=space, exact=True).click()
    settings.get_by_label("Loop").uncheck()
    settings.get_by_label("Frames").select_option("120")
    slider(desktop).fill("31")
    truth = desktop.api(
        "/v1/interpolate", model=style, keyframes=KEYFRAMES, frames=120, method=method, space=space, loop=False
    )
    desktop.shows(frame(desktop), truth[31])


def test_w_is_for_style_models(desktop: Screen):
    desktop.open(WALK)
    expect(desktop.settings().get_by_role("button", name="w", exact=True)).to_be_disabled()


def test_a_picture_is_dragged_between_the_keyframes(screen: Screen):
    screen.open(WALK)
    source = screen.page.locator(".tray .tile.ready").nth(4)
    source.scroll_into_view_if_needed()
    screen.page.evaluate("scrollBy(0, 160)")
    at, target = source.bounding_box(), screen.page.locator(".strip .tile").nth(1).bounding_box()
    assert at is not None and target is not None
    screen.page.mouse.move(at["x"] + 20, at["y"] + 20)
    screen.page.mouse.down()
    screen.page.mouse.move(at["x"] + 25, at["y"] - 20, steps=4)
    screen.page.mouse.move(target["x"] + 4, target["y"] + 20, steps=8)
    expect(screen.page.locator(".strip .mark")).to_be_attached()
    screen.page.mouse.up()
    screen.becomes(lambda: keyframes(screen), [(7, 0), (7, 4), (8, 0), (9, 0)])
    expect(screen.page.locator(".ghost")).to_have_count(0)
    screen.shows(
        screen.page.locator(".strip canvas").nth(1), screen.sample(model=screen.digit_model, seed=7, start=4)[0]
    )
    both = [7, {"seed": 7, "index": 4}, 8, 9]
    truth = screen.api("/v1/interpolate", model=screen.digit_model, keyframes=both, frames=60, loop=True)
    slider(screen).fill("22")
    screen.shows(frame(screen), truth[22])


def test_a_finger_drags_a_picture_between_the_keyframes(browser: Browser, server: Server, http: httpx2.Client):
    with Screen.on(browser, "phone", server.url, http) as screen:
        screen.open(WALK)
        source = screen.page.locator(".tray .tile.ready").nth(1)
        source.scroll_into_view_if_needed()
        screen.page.evaluate("scrollBy(0, 160)")
        at, target = source.bounding_box(), screen.page.locator(".strip .tile").nth(2).bounding_box()
        assert at is not None and target is not None
        finger = screen.page.context.new_cdp_session(screen.page)
        x, y, to_x, to_y = at["x"] + 20, at["y"] + 20, target["x"] + 4, target["y"] + 20
        finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
        for step in range(1, 9):
            point = {"x": x + (to_x - x) * step**2 / 64, "y": y + (to_y - y) * step / 8}
            finger.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        screen.becomes(lambda: keyframes(screen), [(7, 0), (8, 0), (7, 1), (9, 0)])
        screen.is_clean()


def test_a_keyframe_is_dragged_to_another_place(desktop: Screen):
    desktop.open(WALK)
    tiles = desktop.page.locator(".strip .tile")
    tiles.nth(2).drag_to(tiles.nth(0), target_position={"x": 3, "y": 20})
    desktop.becomes(lambda: keyframes(desktop), [(9, 0), (7, 0), (8, 0)])


def test_a_tap_adds_a_picture(screen: Screen):
    screen.open(WALK)
    screen.page.locator(".tray .tile.ready").nth(2).click()
    screen.becomes(lambda: keyframes(screen), [(7, 0), (8, 0), (9, 0), (7, 2)])


def test_the_pictures_to_add_go_on_and_are_in_the_url(screen: Screen):
    screen.open(WALK)
    screen.page.get_by_role("button", name="Later pictures").click()
    screen.state_becomes("tray", "24")
    screen.shows(
        screen.page.locator(".tray canvas").nth(3), screen.sample(model=screen.digit_model, seed=7, start=27)[0]
    )
    screen.page.get_by_role("button", name="Earlier pictures").click()
    screen.state_becomes("tray", None)


def test_keyframes_are_moved_changed_and_taken_out_with_keys(desktop: Screen):
    desktop.open(WALK)
    desktop.page.locator(".strip .tile").nth(2).focus()
    desktop.page.keyboard.press("Alt+ArrowLeft")
    desktop.becomes(lambda: keyframes(desktop), [(7, 0), (9, 0), (8, 0)])
    desktop.page.keyboard.press("Delete")
    desktop.becomes(lambda: keyframes(desktop), [(7, 0), (8, 0)])
    desktop.page.keyboard.press("Delete")
    expect(desktop.page.get_by_role("status")).to_have_text("A walk needs 2 keyframes.")
    desktop.page.locator(".strip .tile").nth(0).focus()
    desktop.page.keyboard.press("Enter")
    desktop.page.get_by_label("Address, seed:index").fill("99:3")
    desktop.page.keyboard.press("Enter")
    desktop.becomes(lambda: keyframes(desktop), [(99, 3), (8, 0)])


def test_it_plays_thirty_frames_a_second_of_its_own_time(screen: Screen):
    screen.page.clock.install(time=0)
    screen.open(WALK)
    screen.page.clock.pause_at(3600_000)
    play = screen.page.locator(".play")
    shown = lambda: int(frame(screen).get_attribute("data-frame") or -1)  # noqa: E731
    screen.becomes(lambda: slider(screen).get_attribute("max"), "59")
    play.click()
    for passed in (500, 500, 800):
        before = shown()
        screen.page.clock.run_for(passed)
        assert (shown() - before) % 60 in (passed * 30 // 1000 - 1, passed * 30 // 1000, passed * 30 // 1000 + 1)
    screen.page.clock.run_for(400)
    assert shown() < 10, "it went on past its end, from its beginning"
    play.click()
    stopped = shown()
    screen.page.clock.run_for(500)
    assert shown() == stopped
    truth = screen.api("/v1/interpolate", model=screen.digit_model, keyframes=KEYFRAMES, frames=60, loop=True)
    screen.shows(frame(screen), truth[stopped])


def test_without_a_loop_it_ends_on_its_last_frame(desktop: Screen):
    desktop.page.clock.install(time=0)
    desktop.open(f"{WALK}&loop=")
    desktop.becomes(lambda: slider(desktop).get_attribute("max"), "59")
    desktop.page.locator(".play").click()
    desktop.page.clock.run_for(2500)
    expect(frame(desktop)).to_have_attribute("data-frame", "59")
    expect(desktop.page.locator(".play")).to_have_text("Play")


@pytest.mark.parametrize(("name", "suffix"), [("GIF", "gif"), ("WebP", "webp"), ("Zip", "zip")])
def test_a_walk_is_downloaded_as_the_api_makes_it(screen: Screen, name: str, suffix: str):
    screen.open(WALK)
    with screen.page.expect_download() as started:
        screen.settings().get_by_role("button", name=f"Download as {name}").click()
    assert started.value.suggested_filename == f"walk-{screen.digit_model}.{suffix}"
    data = started.value.path().read_bytes()
    truth = screen.api("/v1/interpolate", model=screen.digit_model, keyframes=KEYFRAMES, frames=60, loop=True)
    if suffix == "zip":
        found, _ = pictures.of_zip(data)
        assert found.shape == (60, *(9 * side for side in truth.shape[1:3]), 1)
        assert (found[:, ::9, ::9] == truth).all()
    else:
        assert pictures.frames(data).shape[1:3] == (252, 252)
    asked = screen.request_text("curl")
    assert ("image" if suffix != "zip" else "application") + f"/{suffix}" in asked and '"scale": 9' in asked


def test_a_wander_drifts_from_address_to_address(screen: Screen):
    screen.page.clock.install(time=0)
    screen.open("?view=wander&from=7:0&pace=4")
    screen.page.clock.pause_at(3600_000)
    ends = [7, {"seed": 7, "index": 1}]
    truth = screen.api("/v1/interpolate", model=screen.digit_model, keyframes=ends, frames=121, labels=[0, 1])
    screen.shows(frame(screen), truth[0])
    screen.page.get_by_role("button", name="Wander", exact=True).click()
    screen.page.clock.run_for(2000)
    at = int(frame(screen).get_attribute("data-frame") or 0)
    assert 58 <= at <= 61, "half the way after half the time"
    screen.shows(frame(screen), truth[at])
    screen.page.clock.run_for(2200)
    screen.page.wait_for_timeout(300)
    screen.page.clock.run_for(300)
    screen.state_becomes("from", "7:1")
    expect(screen.page.locator(".strip .tile")).to_have_count(2)

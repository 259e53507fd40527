"""Digits: any number, in rows of variations, each digit drawn anew by itself."""

import numpy as np
from playwright.sync_api import expect

import pictures
from playground.screen import Screen, canvases, rgb


def test_a_number_is_written_as_it_is_typed(screen: Screen):
    screen.open("?view=digits&seed=9")
    screen.page.get_by_label("Number").fill("2718")
    screen.settings().get_by_label("Variations").select_option("3")
    paper = screen.page.locator(".paper")
    truth = screen.api("/v1/digits", digits="2718", rows=3, seed=9)
    screen.becomes(lambda: paper.locator("canvas").count(), 12)
    for i, picture in enumerate(truth):
        screen.shows(paper.locator("canvas").nth(i), picture)
    assert screen.state("digits") == "2718"


def test_one_digit_is_drawn_anew_and_the_others_stay(screen: Screen):
    screen.open("?view=digits&digits=1234&variations=2&seed=9")
    paper = screen.page.locator(".paper")
    screen.becomes(lambda: paper.locator(".drawn").count(), 8)
    before = canvases(paper)
    paper.locator(".tile").nth(6).click()
    screen.state_becomes("rolls", "6.1")
    address = "1030.png?label=3"  # cell 6 is a 3; its next drawing lies 1024 further
    truth = pictures.decode(screen.http.get(f"/v1/images/{screen.digit_model}/9/{address}").content)
    screen.shows(paper.locator("canvas").nth(6), truth)
    after = canvases(paper)
    assert [i for i in range(8) if not np.array_equal(before[i], after[i])] == [6]
    assert f"/v1/images/{screen.digit_model}/9/{address}" in screen.request_text("curl")

    screen.open(screen.page.url.removeprefix(f"{screen.url}/"))
    screen.shows(paper.locator("canvas").nth(6), truth)
    screen.page.get_by_role("button", name="Undo all").click()
    screen.shows(paper.locator("canvas").nth(6), before[6])


def test_a_new_number_forgets_what_was_drawn_anew(desktop: Screen):
    desktop.open("?view=digits&digits=12&variations=1&rolls=0.3&seed=4")
    desktop.page.get_by_label("Number").fill("77")
    desktop.state_becomes("digits", "77")
    assert desktop.state("rolls") is None
    truth = desktop.api("/v1/digits", digits="77", rows=1, seed=4)
    desktop.shows(desktop.page.locator(".paper canvas").first, truth[0])


def test_models_that_write_no_digits_cannot_be_chosen(desktop: Screen):
    desktop.open(f"?view=digits&model={desktop.style_model}")
    expect(desktop.page.locator(f".card[data-model={desktop.style_model}] .choose")).to_be_disabled()
    expect(desktop.page.locator(f".card[data-model={desktop.digit_model}]")).to_have_class("card chosen")


def test_sixteen_rows_of_sixty_four_digits_fit(desktop: Screen):
    digits = "0123456789" * 6 + "0123"
    desktop.open(f"?view=digits&digits={digits}&variations=16&seed=1")
    paper = desktop.page.locator(".paper")
    desktop.becomes(lambda: paper.locator(".drawn").count(), 1024)
    truth = rgb(desktop.api("/v1/digits", digits=digits, rows=16, seed=1))
    desktop.shows(paper.locator("canvas").nth(1023), truth[1023])

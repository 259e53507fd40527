"""Mix: the paper's table, by hand."""

import pytest
from playwright.sync_api import expect

from playground.screen import Screen

TABLE = "?view=mix&rows=1:0,2:0&columns=11:0,12:0,13:4"
SOURCES = {"rows": [1, 2], "columns": [11, 12, {"seed": 13, "index": 4}]}


def cells(screen: Screen):
    return screen.page.locator(".mix canvas[data-row]")


def test_the_table_is_the_apis_with_sources_along_two_edges(screen: Screen):
    screen.open(TABLE, ready="canvas[data-row].drawn")
    truth = screen.api("/v1/style-mix", styles="coarse", **SOURCES)
    expect(cells(screen)).to_have_count(6)
    for i, picture in enumerate(truth):
        screen.shows(cells(screen).nth(i), picture)
    style = screen.style_model
    column = screen.page.locator("[data-side=columns] canvas").nth(2)
    screen.shows(column, screen.sample(model=style, seed=13, start=4)[0])
    screen.shows(screen.page.locator("[data-side=rows] canvas").nth(1), screen.sample(model=style, seed=2)[0])


@pytest.mark.parametrize("group", ["middle", "fine"])
def test_groups_are_toggled(screen: Screen, group: str):
    screen.open(TABLE, ready="canvas[data-row].drawn")
    settings = screen.settings()
    settings.get_by_role("button", name=group).click()
    settings.get_by_role("button", name="coarse").click()
    screen.state_becomes("styles", group)
    screen.shows(cells(screen).nth(4), screen.api("/v1/style-mix", styles=group, **SOURCES)[4])


def test_single_layers_are_toggled(screen: Screen):
    screen.open(TABLE, ready="canvas[data-row].drawn")
    style = next(m for m in screen.http.get("/v1/models").json()["models"] if m["id"] == screen.style_model)["style"]
    settings = screen.settings()
    settings.get_by_role("button", name="Layer 0").click()
    settings.get_by_role("button", name=f"Layer {style['layers'] - 1}").click()
    layers = [*style["coarse"][1:], style["layers"] - 1]
    screen.state_becomes("styles", ",".join(map(str, layers)))
    screen.shows(cells(screen).nth(3), screen.api("/v1/style-mix", styles=layers, **SOURCES)[3])
    expect(settings.get_by_role("button", name="coarse")).to_have_attribute("aria-pressed", "false")
    screen.open(screen.page.url.removeprefix(f"{screen.url}/"), ready="canvas[data-row].drawn")
    screen.shows(cells(screen).nth(3), screen.api("/v1/style-mix", styles=layers, **SOURCES)[3])


def test_any_source_is_changed_added_and_taken_out(screen: Screen):
    screen.open(TABLE, ready="canvas[data-row].drawn")
    screen.page.get_by_role("button", name="Column 2, picture 12:0. Change").click()
    screen.page.get_by_label("Address, seed:index").fill("77:1")
    screen.page.keyboard.press("Enter")
    screen.state_becomes("columns", "11:0,77:1,13:4")
    truth = screen.api(
        "/v1/style-mix", rows=[1, 2], columns=[11, {"seed": 77, "index": 1}, {"seed": 13, "index": 4}], styles="coarse"
    )
    screen.shows(cells(screen).nth(1), truth[1])
    screen.page.get_by_role("button", name="Row 1, picture 1:0. Change").click()
    screen.page.get_by_role("button", name="Take out").click()
    screen.state_becomes("rows", "2:0")
    screen.page.get_by_role("button", name="Add a row").click()
    screen.becomes(lambda: len((screen.state("rows") or "").split(",")), 2)
    screen.page.get_by_role("button", name="Column 1, picture 11:0. Change").click()
    screen.page.get_by_role("button", name="Next of its seed").click()
    screen.state_becomes("columns", "11:1,77:1,13:4")


def test_truncation_is_of_sources_and_mixes(desktop: Screen):
    desktop.open(f"{TABLE}&truncation=0.4", ready="canvas[data-row].drawn")
    desktop.shows(cells(desktop).nth(5), desktop.api("/v1/style-mix", styles="coarse", truncation=0.4, **SOURCES)[5])
    row = desktop.page.locator("[data-side=rows] canvas").first
    desktop.shows(row, desktop.sample(model=desktop.style_model, seed=1, truncation=0.4)[0])


def test_no_layer_at_all_is_refused_in_the_words_of_the_server(desktop: Screen):
    desktop.open(TABLE, ready="canvas[data-row].drawn")
    desktop.settings().get_by_role("button", name="coarse").click()
    said = desktop.http.post("/v1/style-mix", json={**SOURCES, "styles": []}).json()["detail"]
    expect(desktop.page.get_by_role("alert").filter(has_text=said)).to_be_visible()
    desktop.complaints.clear()  # the browser notes the 422

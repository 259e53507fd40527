"""A run's page shows what the run recorded, and needs nothing but itself."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from small import OVERRIDES, small_recipe
from training.errors import TrainingError
from training.monitoring.collapse import Alarm
from training.monitoring.report import curves, report
from training.monitoring.report.page import defaults, duration, render
from training.monitoring.report.record import read
from training.monitoring.statistics import Monitor, new_run

LAST = {
    "kimg": 250.0,
    "seconds": 4000.0,
    "kimg_per_second": 0.6543,
    "discriminator_loss": 1.2345,
    "generator_loss": 0.9876,
    "real_probability": 0.6789,
    "fake_probability": 0.3456,
    "real_logit": 1.5,
    "fake_logit": -0.75,
    "discriminator_gradient_norm": 0.0421,
    "generator_gradient_norm": 3.21,
    "r1_penalty": 0.0314,
    "resolution": 16,
    "alpha": 1.0,
}
REASON = "Samples are much alike: 34% as far apart as real pictures are, & <50%> is the least."


class Page(HTMLParser):
    """What a page refers to, what it says, and its images."""

    def __init__(self, text: str):
        super().__init__()
        self.references: list[str] = []
        self.pictures: list[tuple[str, str | None]] = []  # media type and alternative text
        self.text = ""
        self.stack: list[str] = []
        self.changed: list[str] = []  # rows of settings
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        for name in {"src", "srcset", "href", "data", "action", "poster", "background"} & found.keys():
            self.references.append(found[name] or "")
            if tag == "img":
                self.pictures.append((self.references[-1].partition(";")[0], found.get("alt")))
        if tag == "tr":
            self.changed_row = found.get("class") == "changed"
            if self.changed_row:
                self.changed.append("")
        self.stack.append(tag)

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] != "style":
            self.text += data
        if getattr(self, "changed_row", False):
            self.changed[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self.changed_row = False


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 50 ticks and grids that grew from 8 to 16 px, with FID at some ticks and one alarm."""
    folder = new_run(tmp_path_factory.mktemp("runs"), small_recipe("stylegan-lite-critters-grown", "total_kimg=500"))
    monitor = Monitor(folder, 500, 0)
    random = np.random.default_rng(0)
    for k in range(1, 51):
        line = {**LAST, "kimg": 5.0 * k, "resolution": 8 if k < 20 else 16}
        if k < 50:
            line |= {name: float(random.uniform(0.1, 1)) for name in LAST if "loss" in name or "prob" in name}
        if k in (10, 20, 30):
            line |= {"fid": {10: 40.5, 20: 21.25, 30: 33.75}[k], "pairwise_distance": 0.87, "modes": 7}
        monitor.tick(line)
        if k % 2 == 0:
            size = 8 if k < 20 else 16
            monitor.grid(random.integers(0, 256, (64, size, size, 3), np.uint8), 5.0 * k, columns=8)
    monitor.alarm(150.0, Alarm("samples_alike", REASON))
    monitor.close()
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    path = report(run)
    assert path == run / "report" / "index.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_refers_to_nothing_outside_itself(run: Path, page: Page):
    assert page.references and all(reference.startswith("data:image/") for reference in page.references)
    source = re.sub(r"base64,[A-Za-z0-9+/=]+", "", (run / "report" / "index.html").read_text(encoding="utf-8"))
    assert not re.search(r"https?:|//\w|url\(|@import", source)
    assert "default-src 'none'" in source  # and the browser is told so


def test_the_page_shows_the_values_of_the_last_tick(page: Page):
    for name in LAST.keys() - {"kimg", "seconds"}:
        assert f"{LAST[name]:.4g}" in page.text
    assert "2.25" in page.text  # the logit gap
    assert "250.0 of 500 kimg, not finished" in page.text and "1 h 6 min of training" in page.text


def test_what_was_measured_earlier_says_when_and_fid_its_best(page: Page):
    assert "33.75at 150.0 kimg; best 21.25 at 100.0 kimg" in page.text
    assert "0.87at 150.0 kimg" in page.text


def test_alarms_are_told_and_marked_in_the_curves(run: Path, page: Page):
    assert REASON in page.text and "samples alike" in page.text
    losses = [{name: line[name] for name in ("kimg", "discriminator_loss")} for line in read(run).stats]
    record = replace(read(run), stats=losses)
    (marked,), (plain,) = curves.draw(record), curves.draw(replace(record, alarms=[]))
    assert _pixels_near(marked.light, curves.LIGHT["alarm"]) > 0 == _pixels_near(plain.light, curves.LIGHT["alarm"])
    assert _pixels_near(marked.dark, curves.DARK["alarm"]) > 0 == _pixels_near(plain.dark, curves.DARK["alarm"])


def _pixels_near(png: bytes, colour: str) -> int:
    with Image.open(io.BytesIO(png)) as picture:
        distance = np.abs(np.asarray(picture.convert("RGB")).astype(int) - ImageColor.getrgb(colour))
    return int((distance.sum(axis=2) < 20).sum())


def test_a_curve_is_drawn_for_what_was_recorded_and_for_no_more(run: Path, page: Page):
    names = {path.stem for path in (run / "report").glob("*.png")}
    light = {
        "losses", "probabilities", "logit_gap", "gradient_norms", "penalties", "fid", "pairwise_distance", "modes",
        "speed", "resolution",
    }  # fmt: skip
    assert names == light | {f"{name}-dark" for name in light}
    alts = [alt for kind, alt in page.pictures if kind == "data:image/png" and alt and "at the end" in alt]
    assert len(alts) == 2 * len(light)  # for light pages and for dark ones
    assert "Losses over the run; at the end: discriminator 1.234, generator 0.9876." in alts
    for reference in page.references:  # all are whole images
        kind, data = re.fullmatch(r"data:image/(png|gif);base64,(.+)", reference).groups()  # pyright: ignore
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            picture.load()
            assert picture.format == kind.upper()


def test_grids_are_a_selection_and_a_time_lapse(page: Page):
    captions = re.findall(
        r"([\d.]+) kimg(?=[^;,]|$)", page.text.partition("Samples over time")[2].partition("Curves")[0]
    )
    assert len(captions) == 12 and captions[0] == "10.0" and captions[-1] == "250.0"
    assert [kind for kind, _ in page.pictures].count("data:image/gif") == 1


def test_settings_show_their_default_where_they_differ(page: Page):
    assert "batch16 default 64" in page.changed
    assert "w_size16 default 128" in page.changed
    assert "fade_kimg0.08 default 0.0" in page.changed
    assert not any(row.startswith(("start", "mapping_layers", "total_kimg", "id")) for row in page.changed)
    assert "mapping_layers4" in page.text


@pytest.mark.parametrize("name", OVERRIDES)
def test_a_recipe_that_sets_nothing_has_nothing_set_off(name: str, tmp_path: Path):
    folder = new_run(tmp_path, small_recipe(name))
    options = json.loads((folder / "options.json").read_text())
    usual = defaults(options["family"])
    (folder / "options.json").write_text(json.dumps({**options, **usual}))
    (folder / "stats.jsonl").write_text(json.dumps(LAST) + "\n")
    page = Page(render(read(folder), []))
    assert page.changed == []
    assert "None was raised." in page.text and "No grid was kept yet." in page.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is no run folder: it holds no options.json"),
        ({"options.json": "{}"}, r"holds no statistics yet \(stats.jsonl\)"),
        ({"options.json": "{}", "stats.jsonl": '{"kimg": 1'}, r"holds no statistics yet \(stats.jsonl\)"),
    ],
)
def test_a_folder_without_statistics_is_refused_in_words(files: dict[str, str], message: str, tmp_path: Path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(TrainingError, match=message):
        report(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"), [(9.4, "9 s"), (59.6, "1 min 0 s"), (1131, "18 min 51 s"), (7500, "2 h 5 min")]
)
def test_a_duration_is_said_in_two_units_at_most(seconds: float, text: str):
    assert duration(seconds) == text

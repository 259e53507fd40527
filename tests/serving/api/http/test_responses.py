"""How large a reply may be: refused before anything is drawn."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from serving.api.http.responses import GIF, JPEG, JSON, NPY, PNG, WEBP, ZIP, Order
from serving.engine.encoding import Animation, Layout
from serving.engine.generation import Plan, RequestError
from serving.engine.latents import Address
from serving.engine.repository import ImageSpec, load_model

MakePlan = Callable[..., Plan]


@pytest.fixture(scope="module")
def plan(repository_folder: Path) -> MakePlan:
    """A plan of n images of a square model, and of as many sources as asked for."""
    tiny = load_model(repository_folder / "tiny-dcgan")

    def make(n: int, side: int, channels: int, sources: int = 0) -> Plan:
        model = replace(tiny, image=ImageSpec(side, side, channels))
        edges = make(sources, side, channels) if sources else None
        return Plan(model, {}, [Address(7, i) for i in range(n)], None, sources=edges)

    return make


def refused(plan: Plan, layout: Layout, media_type: str) -> str | None:
    """The pointer of what is too large."""
    try:
        Order(plan, layout, media_type).check_size()
    except RequestError as error:
        return error.pointer
    return None


@pytest.mark.parametrize("media_type", [PNG, JPEG, WEBP, ZIP, JSON])
def test_256_digits_at_scale_16_fit_a_reply_but_not_in_rgb(plan: MakePlan, media_type: str):
    assert refused(plan(256, 28, 1), Layout(16, 16), media_type) is None
    assert refused(plan(256, 64, 3), Layout(16, 16), media_type) == "/scale"
    assert refused(plan(256, 64, 3), Layout(16, 4), media_type) is None


def test_arrays_are_not_enlarged_and_count_as_they_are(plan: MakePlan):
    assert refused(plan(256, 64, 3), Layout(16, 16), NPY) is None
    assert refused(plan(256, 1024, 1), Layout(16, 1), NPY) == "/scale"


@pytest.mark.parametrize(("media_type", "side"), [(PNG, 70_000), (JPEG, 65_500), (WEBP, 16_383), (GIF, 65_535)])
def test_a_picture_is_no_longer_than_its_format_holds(plan: MakePlan, media_type: str, side: int):
    assert refused(plan(side // 100, 100, 1), Layout(side // 100), media_type) is None
    expected = None if media_type == PNG else "/columns"
    assert refused(plan(side // 100 + 1, 100, 1), Layout(side // 100 + 1), media_type) == expected


@pytest.mark.parametrize("media_type", [GIF, WEBP])
def test_the_frames_of_an_animation_are_not_side_by_side(plan: MakePlan, media_type: str):
    assert refused(plan(256, 64, 3), Layout(256, 2, Animation(25, True)), media_type) is None


@pytest.mark.parametrize("media_type", [ZIP, JSON, NPY, GIF])
def test_columns_count_where_they_show(plan: MakePlan, media_type: str):
    """One image in a row of 256 is white but for that one, where there is a row."""
    layout = Layout(256, 16, Animation(25, True) if media_type == GIF else None)
    assert Order(plan(1, 64, 3), layout, media_type).size == 64 * 64 * 3 * (1 if media_type == NPY else 16 * 16)
    assert refused(plan(1, 64, 3), layout, media_type) is None
    assert refused(plan(1, 64, 3), layout, PNG) == "/scale"


def test_the_sources_of_a_style_mix_count(plan: MakePlan):
    assert refused(plan(256, 500, 1), Layout(16, 1), PNG) is None  # 64,000,000 of 67,108,864
    assert refused(plan(256, 500, 1, sources=32), Layout(16, 1), PNG) == "/scale"

"""Pictures show themselves in notebooks and save themselves, alone, as a grid, one by one or as an animation."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pictures
from serving.client import Address, Animation, Picture, Pictures


def some(
    n: int,
    channels: int = 3,
    *,
    columns: int | None = None,
    addresses: list[Address | None] | None = None,
    labels: list[int] | None = None,
    seed: int = 1,
) -> Pictures:
    """By default at (7, 2), (7, 3) and so on."""
    array = np.random.default_rng(seed).integers(0, 256, (n, 4, 6, channels), np.uint8)
    found = [Address(7, 2 + i) for i in range(n)] if addresses is None else addresses
    return Pictures(array, "m", "f" * 64, "0.1.0", "r1", found, labels, columns)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_shows_and_saves_its_own_pixels(tmp_path: Path, channels: int):
    picture = some(3, channels)[1]
    assert isinstance(picture, Picture) and picture.address == (7, 3)
    assert np.array_equal(pictures.decode(picture._repr_png_()), picture.array)
    for name in ("a.png", "a.webp"):
        picture.save(tmp_path / name, scale=2)
    large = pictures.decode((tmp_path / "a.png").read_bytes())
    assert large.shape == (8, 12, channels) and np.array_equal(large[::2, 1::2], picture.array)
    with Image.open(tmp_path / "a.webp") as webp:
        assert webp.format == "WEBP"


def test_a_grid_is_row_by_row_and_white_where_it_ends():
    found = some(5)
    grid = pictures.array(found.grid(columns=3))
    cells = pictures.cells(grid, 3, 4, 6)
    assert np.array_equal(cells[:5], found.array) and (cells[5] == 255).all()
    assert pictures.array(found.grid(columns=3, scale=3)).shape == (24, 54, 3)


def test_a_grid_has_the_columns_asked_for_else_is_square():
    assert some(16).grid().size == (4 * 6, 4 * 4)
    assert some(6, columns=6).grid().size == (6 * 6, 4)
    assert some(6, columns=6).grid(columns=2).size == (2 * 6, 3 * 4)


def test_pictures_show_their_grid_and_save_it_or_the_array(tmp_path: Path):
    found = some(5, 1)
    assert np.array_equal(pictures.decode(found._repr_png_()), pictures.array(found.grid()))
    found.save(tmp_path / "grid.png", columns=5)
    assert np.array_equal(pictures.decode((tmp_path / "grid.png").read_bytes()), pictures.array(found.grid(columns=5)))
    found.save(tmp_path / "all.npy")
    assert np.array_equal(np.load(tmp_path / "all.npy"), found.array)


def test_each_is_saved_under_its_address(tmp_path: Path):
    found = some(3)
    paths = found.save_each(tmp_path / "new")
    assert [path.name for path in paths] == ["m-7-2.png", "m-7-3.png", "m-7-4.png"]
    assert np.array_equal([pictures.decode(path.read_bytes()) for path in paths], found.array)
    found = some(2, addresses=[None, None]).save_each(tmp_path)
    assert [path.name for path in found] == ["m-000.png", "m-001.png"]
    found = some(2, labels=[4, 0]).save_each(tmp_path)
    assert [path.name for path in found] == ["m-7-2-label4.png", "m-7-3-label0.png"]


@pytest.mark.parametrize("between", [None, Address(7, 9)], ids=["without an address", "at an address twice"])
def test_frames_are_saved_by_position_so_names_keep_their_order(tmp_path: Path, between: Address | None):
    found = some(3, addresses=[Address(7, 9), between, Address(8, 0)])
    assert [path.name for path in found.save_each(tmp_path)] == ["m-000.png", "m-001.png", "m-002.png"]
    saved = [pictures.decode(path.read_bytes()) for path in sorted(tmp_path.iterdir())]
    assert np.array_equal(saved, found.array)


def test_classes_at_one_address_are_saved_next_to_each_other(tmp_path: Path, client: Any):
    paths = [
        path for label in range(3) for path in client.sample("tiny-cgan", n=4, seed=7, labels=label).save_each(tmp_path)
    ]
    assert sorted(paths) == sorted(tmp_path.iterdir()) and len(paths) == 12


def test_other_files_are_not_overwritten_and_equal_ones_stay(tmp_path: Path):
    some(2).save_each(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    some(2).save_each(tmp_path)
    other = some(4, seed=2, addresses=[Address(7, index) for index in (0, 1, 2, 3)])
    with pytest.raises(FileExistsError, match=r"m-7-2\.png"):
        other.save_each(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before, "of the four, none is there"


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_has_all_frames_and_its_speed(tmp_path: Path, channels: int):
    found = some(4, channels)
    animation = found.animation(fps=20, loop=True, scale=2)
    animation.save(tmp_path / "a.webp")
    animation.save(tmp_path / "a.gif")
    frames = pictures.frames((tmp_path / "a.webp").read_bytes())
    large = found.array.repeat(2, axis=1).repeat(2, axis=2)
    assert np.array_equal(frames, np.broadcast_to(large, frames.shape))
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.format, gif.n_frames, gif.info["duration"], gif.info["loop"]) == ("GIF", 4, 50, 0)  # pyright: ignore[reportAttributeAccessIssue]
    shown = animation._repr_mimebundle_()["image/gif"]
    assert np.array_equal(pictures.frames(base64.b64decode(shown)), pictures.frames((tmp_path / "a.gif").read_bytes()))


def test_an_animation_plays_once_where_that_is_asked_for():
    animation = some(3).animation(loop=False)
    assert "loop" not in Image.open(io.BytesIO(animation.gif())).info
    assert Image.open(io.BytesIO(animation.webp())).info["loop"] == 1


def test_a_file_that_is_no_animation_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"a\.png\) must end in \.gif or \.webp"):
        some(2).animation().save(tmp_path / "a.png")
    assert isinstance(some(2).animation(), Animation) and list(tmp_path.iterdir()) == []

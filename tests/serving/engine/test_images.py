"""Arrays in, files out: what is decoded is what was packed."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageSequence

from serving.engine import images
from serving.engine.png import pngs

rng = np.random.default_rng(7)
GREY = rng.integers(0, 256, (6, 5, 7, 1), np.uint8)  # (N, H, W, C), all three different
RGB = rng.integers(0, 256, (6, 5, 7, 3), np.uint8)
BOTH = pytest.mark.parametrize("batch", [GREY, RGB], ids=["grey", "rgb"])


def decode(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def pixels(image: Image.Image, channels: int) -> np.ndarray:
    """(H, W, C)"""
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array.reshape(*array.shape[:2], channels)


def frames(data: bytes, channels: int) -> np.ndarray:
    return np.stack([pixels(frame, channels) for frame in ImageSequence.Iterator(Image.open(io.BytesIO(data)))])


@BOTH
def test_a_webp_holds_exactly_the_pixels(batch: np.ndarray):
    image = decode(images.webp(batch[0]))
    assert image.format == "WEBP"
    assert np.array_equal(pixels(image, 3), np.broadcast_to(batch[0], (5, 7, 3)))


@BOTH
def test_a_jpeg_is_near_the_pixels_and_grey_stays_grey(batch: np.ndarray):
    smooth = np.linspace(0, 250, 16 * 16 * batch.shape[-1]).reshape(16, 16, -1).astype(np.uint8)
    image = decode(images.jpeg(smooth))
    assert (image.format, image.mode) == ("JPEG", "L" if batch is GREY else "RGB")
    assert np.abs(pixels(image, smooth.shape[-1]).astype(int) - smooth).max() <= 8


@BOTH
def test_enlarging_repeats_whole_pixels(batch: np.ndarray):
    large = images.enlarge(batch, 3)
    assert large.shape == (6, 15, 21, batch.shape[-1])
    for y, x in [(0, 0), (1, 2), (2, 2)]:
        assert np.array_equal(large[:, y::3, x::3], batch)


def test_scale_1_changes_nothing():
    assert np.array_equal(images.enlarge(RGB, 1), RGB)


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4), (256, 16)])
def test_a_grid_is_nearly_square(n: int, columns: int):
    assert images.square_columns(n) == columns


@BOTH
def test_a_grid_reads_left_to_right_and_blank_cells_are_white(batch: np.ndarray):
    image = images.grid(batch, 4)
    assert image.shape == (10, 28, batch.shape[-1])
    for i in range(6):
        y, x = 5 * (i // 4), 7 * (i % 4)
        assert np.array_equal(image[y : y + 5, x : x + 7], batch[i])
    assert (image[5:, 14:] == 255).all()


def test_a_grid_wider_than_its_pictures_is_a_strip():
    assert images.grid(RGB[:2], 3).shape == (5, 21, 3)


def test_a_mix_grid_has_its_sources_left_and_on_top():
    rows, columns, mixes = RGB[:2], RGB[2:5], rng.integers(0, 256, (6, 5, 7, 3), np.uint8)
    cells = images.mix_grid(mixes, rows, columns).reshape(3, 5, 4, 7, 3).swapaxes(1, 2)
    assert (cells[0, 0] == 255).all()
    assert np.array_equal(cells[0, 1:], columns)
    assert np.array_equal(cells[1:, 0], rows)
    assert np.array_equal(cells[1:, 1:].reshape(mixes.shape), mixes)


@BOTH
def test_an_animated_webp_holds_exactly_the_frames(batch: np.ndarray):
    found = frames(images.webp_animation(batch, fps=10, loop=True), 3)
    assert np.array_equal(found, np.broadcast_to(batch, (6, 5, 7, 3)))


@BOTH
def test_a_gif_holds_exactly_frames_of_256_colours(batch: np.ndarray):
    assert np.array_equal(frames(images.gif(batch, fps=10, loop=True), batch.shape[-1]), batch)


def test_a_gif_of_more_colours_is_near_the_frames():
    ramp = np.stack(np.meshgrid(np.arange(0, 256, 4), np.arange(0, 256, 4), indexing="ij"), -1)
    ramp = np.concatenate([ramp, 255 - ramp[..., :1]], -1).astype(np.uint8)  # 64 x 64, every pixel its own colour
    found = frames(images.gif(np.stack([ramp, ramp[::-1]]), fps=10, loop=True), 3)
    assert np.abs(found[0].astype(int) - ramp).mean() < 6


@pytest.mark.parametrize(("fps", "milliseconds"), [(1, 1000), (24, 40), (25, 40), (50, 20)])
def test_a_gif_shows_frames_for_hundredths_of_a_second(fps: int, milliseconds: int):
    assert decode(images.gif(GREY, fps=fps, loop=False)).info["duration"] == milliseconds


def test_an_animated_webp_shows_frames_for_milliseconds():
    image = decode(images.webp_animation(GREY, fps=24, loop=False))
    assert image.info["duration"] == 42


@pytest.mark.parametrize("animate", [images.gif, images.webp_animation])
def test_an_animation_plays_once_or_loops_for_ever(animate):
    assert decode(animate(RGB, fps=10, loop=True)).info["loop"] == 0
    once = decode(animate(RGB, fps=10, loop=False)).info
    assert once.get("loop", 1) == 1  # a GIF says so by saying nothing


@pytest.mark.parametrize("animate", [images.gif, images.webp_animation])
def test_an_animation_of_one_frame(animate):
    assert frames(animate(GREY[:1], fps=10, loop=True), 1).shape == (1, 5, 7, 1)


@BOTH
def test_an_archive_holds_one_png_per_image_and_the_manifest(batch: np.ndarray):
    packed = pngs(batch)
    with zipfile.ZipFile(io.BytesIO(b"".join(images.archive(packed, {"model": "é", "n": 2**64 - 1})))) as file:
        assert file.testzip() is None
        assert {entry.flag_bits for entry in file.infolist()} == {0}, "sizes stand in the heads, before the data"
        assert file.namelist() == ["manifest.json", *(f"00{i}.png" for i in range(6))]
        assert json.loads(file.read("manifest.json")) == {"model": "é", "n": 2**64 - 1}
        for i, png in enumerate(packed):
            assert file.read(images.file_name(i)) == png


def test_npy_is_numpys_own_format():
    view = RGB[::2, :, ::-1]
    content = b"".join(images.npy(view))
    assert len(content) == images.npy_bytes(view)
    found = np.load(io.BytesIO(content), allow_pickle=False)
    assert found.dtype == np.uint8 and np.array_equal(found, view)


@pytest.mark.parametrize(
    "pack",
    [
        lambda: images.webp(RGB[0]),
        lambda: images.jpeg(RGB[0]),
        lambda: images.gif(RGB, fps=10, loop=True),
        lambda: images.webp_animation(RGB, fps=10, loop=True),
        lambda: b"".join(images.archive(pngs(RGB), {"a": 1})),
        lambda: b"".join(images.npy(RGB)),
    ],
)
def test_the_same_pixels_give_the_same_bytes(pack):
    assert pack() == pack()


@pytest.mark.parametrize(
    ("name", "pack"),
    [("webp", images.webp), ("jpeg", images.jpeg), ("gif", lambda i: images.gif(i[None], fps=1, loop=True))],
)
def test_a_format_holds_pictures_up_to_its_longest_side(name: str, pack):
    line = np.zeros((1, images.MAX_SIDE[name], 1), np.uint8)
    assert decode(pack(line)).size == (images.MAX_SIDE[name], 1)

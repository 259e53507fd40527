"""Pixels in, PNG out: what Pillow reads back is what was packed."""

import io
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from serving.engine.png import png, pngs

rng = np.random.default_rng(7)
GREY = rng.integers(0, 256, (6, 5, 7, 1), np.uint8)  # (N, H, W, C), all three different
RGB = rng.integers(0, 256, (6, 5, 7, 3), np.uint8)
LARGE = np.kron(RGB, np.ones((1, 40, 40, 1), np.uint8))  # beyond what counts as small
BOTH = pytest.mark.parametrize("images", [GREY, RGB, LARGE], ids=["grey", "rgb", "large"])


def decode(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def pixels(image: Image.Image, channels: int) -> np.ndarray:
    """(H, W, C)"""
    return np.asarray(image).reshape(image.height, image.width, channels)


@BOTH
def test_a_png_holds_exactly_the_pixels_and_grey_stays_grey(images: np.ndarray):
    image = decode(png(images[0]))
    assert (image.format, image.mode) == ("PNG", "L" if images is GREY else "RGB")
    assert np.array_equal(pixels(image, images.shape[-1]), images[0])


@BOTH
def test_a_png_carries_text_beside_the_same_pixels(images: np.ndarray):
    image = decode(png(images[0], {"model": "m", "seed": str(2**64 - 1)}))
    assert image.info == {"model": "m", "seed": "18446744073709551615"}
    assert np.array_equal(pixels(image, images.shape[-1]), images[0])


@BOTH
def test_a_png_of_a_view_is_that_of_a_copy(images: np.ndarray):
    view = images[0][::-1, ::2]
    assert png(view) == png(view.copy())


def test_a_png_of_one_pixel():
    assert pixels(decode(png(np.full((1, 1, 3), 9, np.uint8))), 3).tolist() == [[[9, 9, 9]]]


def test_digits_are_packed_smaller_than_their_pixels():
    digit = np.zeros((28, 28, 1), np.uint8)
    digit[8:20, 12:16] = 255
    assert len(png(digit)) < 150


@BOTH
def test_pngs_equals_png_of_each_image(images: np.ndarray):
    assert pngs(images) == [png(image) for image in images]


def test_the_same_pixels_give_the_same_bytes_everywhere():
    """Golden: `x + y` in grey, small and large. Other bytes mean that existing datasets cannot be resumed."""
    steps = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)[..., None]
    assert [crc32(png(steps[:28, :28])), crc32(png(steps))] == [4173002703, 1393557076]

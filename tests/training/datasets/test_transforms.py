"""Images keep their values through every conversion."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.datasets import loaders
from training.datasets.transforms import at_stage, resize, to_unit

DATA = Path(__file__).parents[2] / "data"


def test_a_smaller_resolution_is_the_mean_of_each_block():
    images = torch.tensor([[0, 10], [20, 30]], dtype=torch.uint8).repeat(1, 1, 2, 2)
    assert resize(images, 2).flatten().tolist() == [15, 15, 15, 15]


@pytest.mark.parametrize("resolution", [20, 32])
def test_a_resolution_that_does_not_divide_is_pillows_bicubic(resolution: int):
    images = loaders.load("mnist", DATA, 28, count=20).images
    ours = resize(images, resolution)
    for image, small in zip(images, ours, strict=True):
        size = (resolution, resolution)
        reference = np.asarray(Image.fromarray(image[0].numpy()).resize(size, Image.Resampling.BICUBIC))
        # Pillow rounds, and cuts off at 0 and 255, between rows and columns as well.
        difference = np.abs(reference.astype(int) - small[0].numpy())
        assert difference.mean() < 0.3


def test_a_smaller_resolution_does_not_alias():
    """A checkerboard of single pixels is grey from afar; a filter of fixed width would show bars."""
    board = (torch.arange(60)[:, None] + torch.arange(60)) % 2 * 255
    small = resize(board.to(torch.uint8)[None, None], 16)[0, 0, 2:-2, 2:-2].float()
    assert (small - 127.5).abs().max() <= 1


def test_a_fade_in_blends_from_the_lower_resolution():
    images = torch.randn(2, 3, 16, 16)
    half = at_stage(images, 8, 1.0)
    torch.testing.assert_close(half, torch.nn.functional.avg_pool2d(images, 2))
    start = at_stage(images, 8, 0.0)
    torch.testing.assert_close(start[:, :, ::2, ::2], at_stage(images, 4, 1.0))
    torch.testing.assert_close(at_stage(images, 8, 0.25), start + 0.25 * (half - start))


def test_floats_are_taken_as_they_are():
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(to_unit(levels), torch.tensor([-1.0, -0.6, 1.0]))
    ring = torch.tensor([-1.0, 0.25, 1.0])
    assert torch.equal(to_unit(ring), ring)

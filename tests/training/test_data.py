"""Data arrives whole, in a known order, or is refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch

from training import critters, data
from training.errors import DataError

DATA = Path(__file__).parents[1] / "data"


def test_mnist_is_read_from_torchvisions_layout():
    train, test = data.load("mnist", DATA, 28), data.load("mnist", DATA, 28, "test")
    assert train.images.shape == (256, 1, 28, 28) and train.images.dtype == torch.uint8
    assert train.labels is not None and train.labels[:5].tolist() == [5, 0, 4, 1, 9]  # the set's known beginning
    assert test.labels is not None and test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert train.classes == tuple("0123456789")


def test_critters_are_rendered_once_and_are_the_same_pixels_every_time(tmp_path: Path):
    first = data.load("critters", tmp_path, 64, count=3)
    (cache,) = tmp_path.iterdir()
    stamp = cache.stat().st_mtime_ns
    again = data.load("critters", tmp_path, 64, count=3)
    assert cache.stat().st_mtime_ns == stamp
    assert torch.equal(first.images, again.images)
    np.testing.assert_array_equal(first.images[2].permute(1, 2, 0).numpy(), critters.render(2))
    held_out = data.load("critters", tmp_path, 64, "test", count=3)
    np.testing.assert_array_equal(held_out.images[0].permute(1, 2, 0).numpy(), critters.render(critters.HELD_OUT))


def test_a_smaller_resolution_is_the_mean_of_each_block():
    images = torch.tensor([[0, 10], [20, 30]], dtype=torch.uint8).repeat(1, 1, 2, 2)
    assert data.resize(images, 2).flatten().tolist() == [15, 15, 15, 15]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("imagenet", DATA, 28), "`data.name` (='imagenet') must be one of mnist, critters."),
        (("mnist", DATA, 32), "`data.resolution` (=32) must divide the 28 pixels of mnist."),
        (("mnist", DATA, 28, "train", 1), "1 pictures found"),
    ],
)
def test_data_that_cannot_be_used_is_refused(arguments: tuple, message: str):
    with pytest.raises(DataError) as error:
        data.load(*arguments)
    assert message in str(error.value)


def test_every_epoch_shows_every_picture_once_in_another_order():
    order = data.Order(10, seed=3)
    stream = torch.cat([order.batch(k, 4) for k in range(0, 40, 4)])
    epochs = stream.reshape(4, 10)
    assert (epochs.sort(dim=1).values == torch.arange(10)).all()
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 4


def test_the_order_is_a_function_of_the_position():
    whole = data.Order(10, seed=3)
    stream = torch.cat([whole.batch(k, 4) for k in range(0, 40, 4)])
    assert torch.equal(data.Order(10, seed=3).batch(20, 4), stream[20:24])  # a resumed run starts in the middle
    assert not torch.equal(data.Order(10, seed=4).batch(20, 10), data.Order(10, seed=3).batch(20, 10))


def test_a_fade_in_blends_from_the_lower_resolution():
    images = torch.randn(2, 3, 16, 16)
    half = data.at_stage(images, 8, 1.0)
    torch.testing.assert_close(half, torch.nn.functional.avg_pool2d(images, 2))
    start = data.at_stage(images, 8, 0.0)
    torch.testing.assert_close(start[:, :, ::2, ::2], data.at_stage(images, 4, 1.0))
    torch.testing.assert_close(data.at_stage(images, 8, 0.25), start + 0.25 * (half - start))

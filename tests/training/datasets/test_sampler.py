"""Every run sees each image once an epoch, in an order that a resumed run can continue."""

from pathlib import Path

import torch

from training.datasets.sampler import Sampler, mirrored
from training.datasets.transforms import flip_horizontally

DATA = Path(__file__).parents[2] / "data"


def test_every_epoch_shows_every_picture_once_in_another_order():
    order = Sampler(10, seed=3)
    stream = torch.cat([order.batch(k, 4) for k in range(0, 40, 4)])
    epochs = stream.reshape(4, 10)
    assert (epochs.sort(dim=1).values == torch.arange(10)).all()
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 4


def test_the_order_is_a_function_of_the_position():
    whole = Sampler(10, seed=3)
    stream = torch.cat([whole.batch(k, 4) for k in range(0, 40, 4)])
    assert torch.equal(Sampler(10, seed=3).batch(20, 4), stream[20:24])  # a resumed run starts in the middle
    assert not torch.equal(Sampler(10, seed=4).batch(20, 10), Sampler(10, seed=3).batch(20, 10))


def test_half_of_the_images_are_mirrored():
    images = torch.rand(4000, 1, 2, 3)
    which = mirrored(4000, 0, seed=1)
    flipped = flip_horizontally(images, which)
    changed = (flipped == images.flip(3)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (changed ^ kept).all() and torch.equal(changed, which)
    assert abs(changed.float().mean().item() - 0.5) < 0.03  # nearly 4 standard deviations


def test_flips_follow_the_position_however_the_stream_is_cut():
    state = torch.random.get_rng_state()
    whole = mirrored(64, 1000, seed=7)
    assert torch.equal(whole, torch.cat([mirrored(8, 1000 + k, seed=7) for k in range(0, 64, 8)]))
    assert torch.equal(state, torch.random.get_rng_state())  # what else is random stays as it would have been
    assert not torch.equal(whole, mirrored(64, 1000, seed=8))
    assert not torch.equal(whole, mirrored(64, 1064, seed=7))
    for seed in (-1, 2**64 - 1):
        assert mirrored(64, 10**12, seed).shape == (64,)

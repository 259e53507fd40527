"""The average is the one its half-life says, buffers included."""

import copy

import pytest
import torch
from torch import nn

from training.loop import ema


def test_half_of_the_average_is_younger_than_the_half_life():
    average, network = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(average.weight)
    nn.init.ones_(network.weight)
    for _ in range(100):  # 100 steps of 100 images are one half-life of 10 kimg
        ema.update(average, network, ema.decay_of(100, 10.0, images_seen=10**9))
    assert average.weight.item() == pytest.approx(0.5, rel=1e-4)


def test_the_average_is_short_while_the_run_is_young():
    assert ema.decay_of(64, 10.0, images_seen=64) < 1e-6  # at first, the network itself
    assert ema.decay_of(64, 10.0, images_seen=100_000) == pytest.approx(0.5 ** (64 / 5_000))
    assert ema.decay_of(64, 10.0, images_seen=10**9) == pytest.approx(0.5 ** (64 / 10_000))


def test_buffers_are_averaged_and_counters_copied():
    network = nn.BatchNorm2d(2)
    average = copy.deepcopy(network)
    network(torch.randn(16, 2, 3, 3) + 5)
    ema.update(average, network, 0.5)
    assert network.running_mean is not None and average.running_mean is not None
    torch.testing.assert_close(average.running_mean, network.running_mean / 2)
    assert average.num_batches_tracked == network.num_batches_tracked == 1

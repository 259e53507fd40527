"""Penalties have the values that can be computed by hand."""

import pytest
import torch

from training.regularizers import gradient_penalty, style_mixing_crossover


def test_the_penalty_of_a_linear_discriminator_is_half_its_squared_weights():
    weights = torch.randn(3, 4, 4)
    images = torch.randn(5, 3, 4, 4, requires_grad=True)
    logits = (images * weights).sum(dim=(1, 2, 3))
    assert gradient_penalty(images, logits).item() == pytest.approx(weights.square().sum().item() / 2, rel=1e-5)


def test_the_penalty_is_differentiable_in_the_weights():
    weight = torch.tensor(3.0, requires_grad=True)
    images = torch.ones(2, 1, 1, 1, requires_grad=True)
    gradient_penalty(images, (images * weight).sum(dim=(1, 2, 3))).backward()  # weight^2 / 2
    assert weight.grad is not None and weight.grad.item() == pytest.approx(3.0)


def test_mixing_crosses_over_somewhere_between_the_first_layer_and_the_last():
    torch.manual_seed(0)
    crossover = style_mixing_crossover(20_000, 8, 0.9, torch.device("cpu"))
    mixed = crossover[crossover < 8]
    assert len(mixed) / 20_000 == pytest.approx(0.9, abs=0.01)
    assert torch.bincount(mixed, minlength=8)[1:].min() > 20_000 * 0.9 / 7 * 0.9  # 1 .. 7 alike
    assert mixed.min() == 1  # at 0 the first style would be gone


def test_no_picture_is_mixed_at_probability_zero():
    assert (style_mixing_crossover(100, 8, 0.0, torch.device("cpu")) == 8).all()

"""Every loss equals its formula."""

import math

import pytest
import torch

from training import losses


def test_non_saturating_discriminator_equals_its_formula():
    real, fake = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.0])
    expected = -torch.log(torch.sigmoid(real)).mean() - torch.log(1 - torch.sigmoid(fake)).mean()
    assert losses.non_saturating_discriminator(real, fake).item() == pytest.approx(expected.item(), rel=1e-6)


def test_an_undecided_discriminator_loses_two_log_two():
    zero = torch.zeros(3)
    assert losses.non_saturating_discriminator(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert losses.non_saturating_generator(zero, zero).item() == pytest.approx(math.log(2))


def test_losses_stay_finite_where_a_logarithm_of_a_sigmoid_would_not():
    extreme = torch.tensor([1e4])
    assert losses.non_saturating_discriminator(-extreme, extreme).item() == pytest.approx(2e4)
    assert losses.non_saturating_generator(extreme, -extreme).item() == pytest.approx(1e4)


def test_the_generator_still_learns_where_the_saturating_loss_would_not():
    fake = torch.tensor([-20.0], requires_grad=True)  # a discriminator that is sure
    losses.non_saturating_generator(fake, fake).backward()
    assert fake.grad is not None and fake.grad.item() == pytest.approx(-1.0, rel=1e-6)


def test_relativistic_losses_compare_each_pair():
    real, fake = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.0])
    expected = -torch.log(torch.sigmoid(real - fake)).mean()
    assert losses.relativistic_discriminator(real, fake).item() == pytest.approx(expected.item(), rel=1e-6)
    swapped = losses.relativistic_discriminator(fake, real)
    assert losses.relativistic_generator(real, fake).item() == pytest.approx(swapped.item())


def test_a_relativistic_loss_does_not_see_what_is_added_to_every_logit():
    real, fake = torch.randn(8), torch.randn(8)
    shifted = losses.relativistic_discriminator(real + 5, fake + 5)
    assert shifted.item() == pytest.approx(losses.relativistic_discriminator(real, fake).item(), rel=1e-5)

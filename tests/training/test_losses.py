"""Every loss equals its formula, wherever the logits lie."""

import math
import typing

import pytest
import torch
from torch import Tensor

from training import recipe
from training.losses import LOSSES


def log_d(logits: Tensor) -> Tensor:
    """log D, as the papers write it: naively, so in float64."""
    return logits.double().sigmoid().log()


def log_not_d(logits: Tensor) -> Tensor:
    return (1 - logits.double().sigmoid()).log()


FORMULAS = {
    "minimax": (
        lambda real, fake: -(log_d(real).mean() + log_not_d(fake).mean()),
        lambda real, fake: log_not_d(fake).mean(),
    ),
    "non_saturating": (
        lambda real, fake: -(log_d(real).mean() + log_not_d(fake).mean()),
        lambda real, fake: -log_d(fake).mean(),
    ),
    "wasserstein": (
        lambda real, fake: -(real.mean() - fake.mean()),
        lambda real, fake: -fake.mean(),
    ),
    "least_squares": (
        lambda real, fake: ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2,
        lambda real, fake: ((fake - 1) ** 2).mean() / 2,
    ),
    "hinge": (
        lambda real, fake: -((real - 1).clamp(max=0).mean() + (-fake - 1).clamp(max=0).mean()),
        lambda real, fake: -fake.mean(),
    ),
    "relativistic": (
        lambda real, fake: -log_d(real - fake).mean(),
        lambda real, fake: -log_d(fake - real).mean(),
    ),
}
every_loss = pytest.mark.parametrize("name", LOSSES)
with_targets = pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.has_targets])


def some_logits(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(*shape, generator=generator), 3 * torch.randn(*shape, generator=generator)


def gradients(loss: typing.Callable[[Tensor, Tensor], Tensor], real: float, fake: float) -> list[float]:
    """Of a loss of one image each, in the two logits."""
    logits = torch.tensor([real]).requires_grad_(), torch.tensor([fake]).requires_grad_()
    found = torch.autograd.grad(loss(*logits), logits, allow_unused=True)
    return [0.0 if gradient is None else gradient.item() for gradient in found]


def test_every_loss_a_recipe_can_choose_has_a_formula_here():
    names = set(typing.get_args(typing.get_type_hints(recipe.Recipe)["loss"]))
    assert names == LOSSES.keys() == FORMULAS.keys()


@every_loss
def test_a_loss_equals_its_formula(name: str):
    real, fake = some_logits(64)
    for loss, formula in zip(LOSSES[name][:2], FORMULAS[name], strict=True):
        assert loss(real, fake).item() == pytest.approx(formula(real, fake).item(), rel=1e-5)


@every_loss
def test_the_loss_of_several_discriminators_is_their_mean(name: str):
    real, fake = some_logits(3, 64)
    for loss in LOSSES[name][:2]:
        expected = sum(loss(r, f).item() for r, f in zip(real, fake, strict=True)) / 3
        assert loss(real, fake).item() == pytest.approx(expected, rel=1e-5)


@every_loss
def test_discriminators_part_logits_and_generators_raise_theirs(name: str):
    real, fake = gradients(LOSSES[name].discriminator, 0.5, 0.5)
    assert real < 0 < fake
    real, fake = gradients(LOSSES[name].generator, 0.5, 0.5)
    assert fake < 0
    assert (real > 0) == LOSSES[name].compares  # and that of the real ones only in a loss that says so


@every_loss
@pytest.mark.parametrize("real, fake", [(1e4, -1e4), (-1e4, 1e4)], ids=["sure", "wrong"])
def test_losses_are_finite_where_a_probability_rounds_to_0_or_1(name: str, real: float, fake: float):
    for loss in LOSSES[name][:2]:
        assert loss(torch.tensor([real]), torch.tensor([fake])).isfinite()
        assert all(map(math.isfinite, gradients(loss, real, fake)))


@every_loss
def test_logits_of_half_the_bits_lose_no_more_in_the_loss(name: str):
    real, fake = (logits.bfloat16() for logits in some_logits(64))
    for loss in LOSSES[name][:2]:
        assert loss(real, fake).dtype == torch.float32
        assert loss(real, fake).item() == loss(real.float(), fake.float()).item()


def test_an_undecided_discriminator_loses_two_log_two():
    zero = torch.zeros(3)
    loss = LOSSES["minimax"]
    assert loss.discriminator(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert loss.generator(zero, zero).item() == pytest.approx(-math.log(2))


def test_minimax_saturates_where_non_saturating_learns_most():
    for sure in (-20.0, -1e4):
        assert gradients(LOSSES["minimax"].generator, 0.0, sure)[1] == pytest.approx(0, abs=1e-8)
        assert gradients(LOSSES["non_saturating"].generator, 0.0, sure)[1] == pytest.approx(-1, rel=1e-6)
    assert gradients(LOSSES["minimax"].generator, 0.0, -2.0)[1] == pytest.approx(-1 / (1 + math.exp(2)))  # -D(G(z))


def test_a_hinge_discriminator_rests_beyond_its_margin():
    assert gradients(LOSSES["hinge"].discriminator, 1.1, -1.1) == [0, 0]
    assert gradients(LOSSES["hinge"].discriminator, 0.9, -0.9) == [-1, 1]


def test_a_relativistic_loss_ignores_a_shift_of_all_logits():
    real, fake = some_logits(8)
    for loss in LOSSES["relativistic"][:2]:
        assert loss(real + 5, fake + 5).item() == pytest.approx(loss(real, fake).item(), rel=1e-5)


@with_targets
def test_a_target_of_one_is_the_loss_itself(name: str):
    real, fake = some_logits(8)
    loss = LOSSES[name].discriminator
    assert loss(real, fake, 1.0).item() == loss(real, fake, torch.ones(8)).item() == loss(real, fake).item()


@with_targets
def test_a_smoothed_label_is_the_optimum_on_real_images(name: str):
    target = 0.9
    logit = target if name == "least_squares" else math.log(target / (1 - target))

    def smoothed(real: Tensor, fake: Tensor) -> Tensor:
        return LOSSES[name].discriminator(real, fake, target)

    assert gradients(smoothed, logit, 0.0)[0] == pytest.approx(0, abs=1e-6)
    assert gradients(smoothed, logit - 0.1, 0.0)[0] < 0 < gradients(smoothed, logit + 0.1, 0.0)[0]
    assert gradients(smoothed, logit, 0.7)[1] == gradients(LOSSES[name].discriminator, logit, 0.7)[1]  # one-sided


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_targets_weigh_the_two_logarithms_of_each_picture(name: str):
    real, fake = some_logits(2, 64)  # of two discriminators
    target = torch.linspace(0.7, 1.2, 64)
    expected = -(target * log_d(real) + (1 - target) * log_not_d(real)).mean() - log_not_d(fake).mean()
    assert LOSSES[name].discriminator(real, fake, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_least_squares_targets_are_a_distance_from_each_image():
    real, fake = some_logits(2, 64)
    target = torch.linspace(0.7, 1.2, 64)
    expected = ((real - target) ** 2).mean() / 2 + (fake**2).mean() / 2
    assert LOSSES["least_squares"].discriminator(real, fake, target).item() == pytest.approx(expected.item(), rel=1e-5)

"""Looking ahead through the discriminator's updates: the same numbers as those updates, and differentiable."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

from training.networks import dcgan
from training.unrolled import Discriminate, unrolled


class Dense(nn.Module):
    """Smooth everywhere, so that differences of finite width are derivatives. points (N, 2) -> logits (N,)."""

    def __init__(self, norm: str):
        super().__init__()
        first, last = nn.Linear(2, 8), nn.Linear(8, 1)
        if norm == "spectral":
            first, last = spectral_norm(first), spectral_norm(last)
        middle = [nn.BatchNorm1d(8)] if norm == "batch" else []
        self.layers = nn.Sequential(first, *middle, nn.Tanh(), last)

    def forward(self, points: Tensor) -> Tensor:
        return self.layers(points).flatten()


every_norm = pytest.mark.parametrize("norm", ["none", "batch", "spectral"])
REAL = torch.randn(16, 2, generator=torch.Generator().manual_seed(1)).double()
FAKE = torch.randn(16, 2, generator=torch.Generator().manual_seed(2)).double()


def loss_between(real: Tensor, fake: Tensor) -> Callable[[Discriminate], Tensor]:
    return lambda discriminate: F.softplus(-discriminate(real)).mean() + F.softplus(discriminate(fake)).mean()


def begun(discriminator: nn.Module, loss_of: Callable[[Discriminate], Tensor], updates: int) -> torch.optim.Adam:
    """An optimizer with some updates behind it."""
    optimizer = torch.optim.Adam(discriminator.parameters(), 0.02, betas=(0.5, 0.99))
    take(discriminator, optimizer, loss_of, updates)
    return optimizer


def take(
    discriminator: nn.Module, optimizer: torch.optim.Adam, loss_of: Callable[[Discriminate], Tensor], updates: int
) -> None:
    for _ in range(updates):
        optimizer.zero_grad()
        loss_of(discriminator).backward()
        optimizer.step()


def small(norm: str, updates: int = 3) -> tuple[nn.Module, torch.optim.Adam]:
    torch.manual_seed(0)
    discriminator = Dense(norm).double()
    return discriminator, begun(discriminator, loss_between(REAL, FAKE), updates)


def assert_same_state(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float, atol: float) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].detach(), tensor, rtol=rtol, atol=atol)


@every_norm
@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("steps", [1, 5])
def test_unrolled_parameters_are_those_of_as_many_real_updates(norm: str, before: int, steps: int):
    discriminator, optimizer = small(norm, before)
    found = unrolled(discriminator, optimizer, loss_between(REAL, FAKE), steps)
    take(discriminator, optimizer, loss_between(REAL, FAKE), steps)
    expected = discriminator.state_dict()
    if norm == "batch":
        # A bias before batch normalisation has no gradient but rounding errors of 1e-16, which Adam divides by its
        # epsilon of 1e-8: at a rate of 0.02 they move it by up to 2e-10 a step, otherwise on each kind of CPU.
        torch.testing.assert_close(found.pop("layers.0.bias"), expected.pop("layers.0.bias"), rtol=1e-9, atol=1e-9)
    assert_same_state(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_dcgan_discriminator_is_followed_to_float_tolerance(norm):
    torch.manual_seed(0)
    discriminator = dcgan.Discriminator(dcgan.Config(base_channels=4, discriminator_norm=norm), 28, 1)
    discriminator = discriminator.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    loss_of = loss_between(torch.rand(8, 1, 28, 28), -torch.rand(8, 1, 28, 28))
    optimizer = begun(discriminator, loss_of, 3)
    found = unrolled(discriminator, optimizer, loss_of, 3)
    take(discriminator, optimizer, loss_of, 3)
    assert_same_state(found, discriminator.state_dict(), rtol=1e-4, atol=1e-5)


@every_norm
def test_the_discriminator_and_optimizer_stay_bit_for_bit(norm: str):
    discriminator, optimizer = small(norm)
    discriminator.requires_grad_(False)  # as in the generator's half of a training step
    before = copy.deepcopy((discriminator.state_dict(), optimizer.state_dict()))
    fake = FAKE.clone().requires_grad_()
    tensors = unrolled(discriminator, optimizer, loss_between(REAL, fake), 4)
    functional_call(discriminator, tensors, (fake,)).sum().backward()

    assert fake.grad is not None and fake.grad.abs().sum() > 0
    assert_same_state(discriminator.state_dict(), before[0], rtol=0, atol=0)
    after = optimizer.state_dict()
    assert after["param_groups"] == before[1]["param_groups"] and after["state"].keys() == before[1]["state"].keys()
    for index, state in before[1]["state"].items():
        assert_same_state(after["state"][index], state, rtol=0, atol=0)
    assert all(p.grad_fn is None and not p.requires_grad for p in discriminator.parameters())


def test_an_optimizer_that_has_not_begun_is_given_no_state():
    discriminator, optimizer = small("none", updates=0)
    unrolled(discriminator, optimizer, loss_between(REAL, FAKE), 2)
    assert not optimizer.state


@every_norm
@pytest.mark.parametrize("before", [0, 3])
def test_the_gradient_through_updates_is_a_finite_difference(norm: str, before: int):
    discriminator, optimizer = small(norm, before)
    if norm == "spectral":
        discriminator.eval()  # autograd takes the vectors of a power iteration for constants: so they are to be

    def of_generator(shift: Tensor, steps: int = 3) -> Tensor:
        """The loss of a generator with two parameters, before the discriminator as it will be."""
        fake = torch.tanh(FAKE + shift)
        tensors = unrolled(discriminator, optimizer, loss_between(REAL, fake), steps)
        return F.softplus(-functional_call(discriminator, tensors, (fake,))).mean()

    shift = torch.tensor([0.4, -0.2], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(of_generator(shift), shift)
    width = 1e-6
    for k, direction in enumerate(torch.eye(2, dtype=torch.float64) * width):
        difference = of_generator(shift.detach() + direction) - of_generator(shift.detach() - direction)
        assert found[k].item() == pytest.approx(difference.item() / (2 * width), rel=1e-4)

    (blind,) = torch.autograd.grad(of_generator(shift, steps=0), shift)
    assert (found - blind).norm() > 0.05 * blind.norm()  # what the discriminator will answer is felt


def test_a_parameter_that_the_loss_does_not_reach_stays():
    discriminator, optimizer = small("none")
    discriminator.register_parameter("unused", nn.Parameter(torch.ones(3, dtype=torch.float64)))
    optimizer.add_param_group({"params": [discriminator.get_parameter("unused")]})
    assert torch.equal(unrolled(discriminator, optimizer, loss_between(REAL, FAKE), 2)["unused"], torch.ones(3))


def test_a_unit_without_a_gradient_makes_none_infinite():
    torch.manual_seed(0)
    first = nn.Linear(2, 8)
    discriminator = nn.Sequential(first, nn.ReLU(), nn.Linear(8, 1))
    with torch.no_grad():
        first.bias[0] = -100.0  # dead
    optimizer = torch.optim.Adam(discriminator.parameters(), 0.01)
    fake = FAKE.float().requires_grad_()
    tensors = unrolled(discriminator, optimizer, loss_between(REAL.float(), fake), 2)
    functional_call(discriminator, tensors, (fake,)).mean().backward()
    assert fake.grad is not None and fake.grad.isfinite().all()
    assert tensors["0.bias"][0] == -100 and (tensors["0.bias"][1:] != first.bias[1:]).any()

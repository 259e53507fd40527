"""Penalties have the values that can be computed by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from training.networks import stylegan
from training.regularizers import (
    clip_weights,
    feature_matching,
    gradient_penalty,
    mode_seeking,
    other_labels,
    path_length,
    real_targets,
    style_mixing_crossover,
    wgan_gradient_penalty,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def linear(weights: Tensor):
    """A discriminator whose gradient is `weights` (C, H, W) everywhere."""
    return lambda images: (images * weights).sum(dim=(1, 2, 3))


def quadratic(images: Tensor) -> Tensor:
    """A discriminator whose gradient at an image is the image."""
    return images.square().sum(dim=(1, 2, 3)) / 2


def test_r1_of_a_linear_layer_is_half_its_squared_weights():
    weights = torch.randn(3, 4, 4)
    images = torch.randn(5, 3, 4, 4, requires_grad=True)
    penalty = gradient_penalty(images, linear(weights)(images))
    assert penalty.item() == pytest.approx(weights.square().sum().item() / 2, rel=1e-5)


def test_r1_of_a_quadratic_is_half_the_mean_squared_length():
    images = torch.randn(5, 3, 4, 4, requires_grad=True)
    expected = images.detach().square().sum().item() / 5 / 2
    assert gradient_penalty(images, quadratic(images)).item() == pytest.approx(expected, rel=1e-5)


def test_the_penalty_is_differentiable_in_the_weights():
    weight = torch.tensor(3.0, requires_grad=True)
    images = torch.ones(2, 1, 1, 1, requires_grad=True)
    gradient_penalty(images, (images * weight).sum(dim=(1, 2, 3))).backward()  # weight^2 / 2
    assert weight.grad is not None and weight.grad.item() == pytest.approx(3.0)


def test_r1_of_a_tanh_layer_and_its_gradient_are_the_formulas():
    first = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    last = torch.randn(6, dtype=torch.float64, requires_grad=True)
    images = torch.randn(5, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    hidden = torch.tanh(images.flatten(1) @ first.t())  # (N, 6)
    penalty = gradient_penalty(images, hidden @ last)
    slopes = (last * (1 - hidden.square())) @ first  # (N, 8), by hand
    expected = slopes.square().sum() / 5 / 2
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5)
    found = torch.autograd.grad(penalty, (first, last), retain_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(expected, (first, last)), rtol=1e-5, atol=1e-5)


def test_several_discriminators_are_penalised_each():
    weights = torch.randn(2, 1, 2, 2)
    images = torch.randn(5, 1, 2, 2, requires_grad=True)
    opposed = torch.stack([linear(weights[0])(images), linear(-weights[0])(images), linear(weights[1])(images)])
    expected = (2 * weights[0].square().sum() + weights[1].square().sum()).item() / 3 / 2
    assert gradient_penalty(images, opposed).item() == pytest.approx(expected, rel=1e-5)

    of_wgan = wgan_gradient_penalty(
        lambda images: torch.stack([linear(w)(images) for w in weights]), images, torch.randn_like(images)
    )
    expected = sum((w.norm().item() - 1) ** 2 for w in weights) / 2
    assert of_wgan.item() == pytest.approx(expected, rel=1e-5)


def test_wgan_gp_of_a_linear_layer_is_its_slopes_distance():
    real, fake = torch.randn(2, 5, 3, 4, 4)
    weights = torch.randn(3, 4, 4)
    for slope in (0.3, 1.0, 4.0):
        penalty = wgan_gradient_penalty(linear(weights / weights.norm() * slope), real, fake)
        assert penalty.item() == pytest.approx((slope - 1) ** 2, abs=1e-5)


def test_wgan_gp_looks_anywhere_between_real_and_generated():
    seen: list[Tensor] = []

    def discriminate(images: Tensor) -> Tensor:
        seen.append(images.detach())
        return quadratic(images)

    real, fake = torch.randn(2, 4000, 1, 2, 2)
    penalty = wgan_gradient_penalty(discriminate, real, fake)
    share = (seen[0] - fake) / (real - fake)
    assert torch.allclose(share, share[:, :, :1, :1], atol=0.05)  # one draw a pair
    share = share.mean(dim=(1, 2, 3))
    assert -0.01 < share.min() < 0.01 and 0.99 < share.max() < 1.01
    assert share.mean() == pytest.approx(0.5, abs=0.02) and share.var() == pytest.approx(1 / 12, abs=0.005)
    assert penalty.item() == pytest.approx((seen[0].flatten(1).norm(dim=1) - 1).square().mean().item(), rel=1e-5)


def test_wgan_gp_is_differentiable_of_a_flat_discriminator():
    real, fake = torch.randn(2, 5, 1, 2, 2)
    weights = torch.zeros(1, 2, 2, requires_grad=True)
    wgan_gradient_penalty(linear(weights), real, fake).backward()
    assert weights.grad is not None and weights.grad.isfinite().all()

    slope = torch.tensor(3.0, requires_grad=True)
    wgan_gradient_penalty(lambda images: linear(slope * torch.ones(1, 2, 2) / 2)(images), real, fake).backward()
    assert slope.grad is not None and slope.grad.item() == pytest.approx(2 * (3 - 1))  # of (slope - 1)^2


def test_clipped_weights_lie_in_the_cube_small_ones_stay():
    network = nn.Linear(50, 50)
    before = network.weight.detach().clone()
    clip_weights(network, 0.01)
    assert network.weight.abs().max().item() == pytest.approx(0.01)
    assert network.bias.abs().max().item() <= 0.01
    small = before.abs() <= 0.01
    assert small.any() and torch.equal(network.weight[small], before[small])
    assert torch.equal(network.weight.sign(), before.sign())


def linear_synthesis(matrix: Tensor, ws: Tensor) -> Tensor:
    """matrix (L, W, C, H, W'), ws (N, L, W) -> images (N, C, H, W'), whose Jacobian is the matrix."""
    return torch.einsum("nlw,lwcij->ncij", ws, matrix)


def test_path_length_of_a_linear_synthesis_is_its_norm():
    matrix = torch.randn(3, 5, 2, 4, 4)  # 3 styles of 5, images of 2 x 4 x 4
    ws = torch.randn(20_000, 3, 5, requires_grad=True)
    penalty, mean = path_length(linear_synthesis(matrix, ws), ws, torch.zeros(()))
    length = mean.item() / 0.01  # the mean began at 0
    squared = penalty.item() + 2 * mean.item() * length - mean.item() ** 2  # from E[(length - mean)^2]
    assert squared == pytest.approx(matrix.square().sum().item() / 3 / (4 * 4), rel=0.01)
    assert 0.9 * math.sqrt(squared) < length < math.sqrt(squared)


def test_the_path_length_penalty_and_gradient_are_the_formulas():
    scale = torch.tensor(2.0, requires_grad=True)
    matrix, ws = torch.randn(3, 5, 2, 4, 4), torch.randn(8, 3, 5, requires_grad=True)
    torch.manual_seed(1)
    penalty, mean = path_length(linear_synthesis(scale * matrix, ws), ws, torch.tensor(7.0))
    penalty.backward()

    torch.manual_seed(1)
    y = torch.randn(8, 2, 4, 4)
    lengths = torch.einsum("ncij,lwcij->nlw", y / 4, matrix).square().sum(dim=2).mean(dim=1).sqrt()  # at scale 1
    assert mean.item() == pytest.approx(7 + 0.01 * (2 * lengths.mean().item() - 7), rel=1e-6)
    assert not mean.requires_grad
    assert penalty.item() == pytest.approx((2 * lengths - mean).square().mean().item(), rel=1e-5)
    expected = (2 * (2 * lengths - mean) * lengths).mean()
    assert scale.grad is not None and scale.grad.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_mean_path_length_comes_to_where_the_lengths_are():
    matrix, mean = torch.randn(1, 5, 1, 4, 4), torch.zeros(())
    ws = torch.randn(64, 1, 5, requires_grad=True)
    for _ in range(600):
        _, mean = path_length(linear_synthesis(matrix, ws), ws, mean)
    y = torch.randn(20_000, 1, 4, 4)
    expected = torch.einsum("ncij,lwcij->nlw", y / 4, matrix).flatten(1).norm(dim=1).mean()
    assert mean.item() == pytest.approx(expected.item(), rel=0.02)


@pytest.mark.parametrize("modulation", ["adain", "demodulation"])
def test_path_lengths_reach_the_mapping_network(modulation):
    config = stylegan.Config(latent_size=8, w_size=8, mapping_layers=2, channel_max=8, modulation=modulation)
    generator = stylegan.Generator(config, 8, 3)
    ws = generator.styles(torch.randn(4, 8), 0.5)
    penalty, _ = path_length(generator.synthesis(ws, random_noise=True), ws, torch.zeros(()))
    penalty.backward()
    style = generator.synthesis.layers[-1].get_parameter("style.weight")
    for parameter in (*generator.mapping.parameters(), style):
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0


def test_features_match_where_their_means_do():
    real, fake = torch.randn(6, 4), torch.randn(8, 4)
    expected = sum((real[:, k].mean() - fake[:, k].mean()).item() ** 2 for k in range(4))
    assert feature_matching(real, fake).item() == pytest.approx(expected, rel=1e-5)
    assert feature_matching(real, real.flip(0)).item() == pytest.approx(0, abs=1e-10)
    assert feature_matching(real, real + 0.5).item() == pytest.approx(4 * 0.25, rel=1e-5)


def test_mode_seeking_is_the_inverse_of_how_far_images_move():
    z_a, z_b = torch.randn(2, 16, 12)

    def pictures(z: Tensor, scale: float) -> Tensor:
        return scale * z.reshape(-1, 3, 2, 2)

    for scale in (0.1, 1.0, 5.0):
        found = mode_seeking(pictures(z_a, scale), pictures(z_b, scale), z_a, z_b)
        assert found.item() == pytest.approx(1 / (scale + 1e-5), rel=1e-4)


def test_mode_seeking_parts_collapsed_images_and_stays_finite():
    z_a, z_b = torch.randn(2, 16, 12)
    same = torch.ones(16, 1, 2, 2)
    assert mode_seeking(same, same, z_a, z_b).item() == pytest.approx(1e5)
    spread = torch.tensor(0.01, requires_grad=True)
    mode_seeking(same, same + spread, z_a, z_b).backward()
    assert spread.grad is not None and spread.grad.item() < 0


def test_real_targets_are_drawn_from_their_interval_per_image():
    targets = real_targets(20_000, 0.7, 1.2, CPU)
    assert isinstance(targets, Tensor) and targets.shape == (20_000,)
    assert 0.7 <= targets.min() < 0.701 and 1.199 < targets.max() <= 1.2
    assert targets.mean().item() == pytest.approx(0.95, abs=0.01)


def test_a_fixed_target_is_a_number():
    assert real_targets(8, 0.9, 0.9, CPU) == 0.9


def test_another_label_is_any_but_the_own_one():
    labels = torch.arange(5).repeat(4_000)
    others = other_labels(labels, 5)
    counts = torch.zeros(5, 5).index_put_((labels, others), torch.ones(len(labels)), accumulate=True)
    assert counts.diagonal().sum() == 0
    assert counts[~torch.eye(5, dtype=torch.bool)].sub(1_000).abs().max() < 150  # 5 standard deviations
    assert other_labels(torch.tensor([0, 1]), 2).tolist() == [1, 0]


def test_mixing_crosses_over_between_the_first_and_last_layer():
    crossover = style_mixing_crossover(20_000, 8, 0.9, CPU)
    mixed = crossover[crossover < 8]
    assert len(mixed) / 20_000 == pytest.approx(0.9, abs=0.01)
    assert torch.bincount(mixed, minlength=8)[1:].min() > 20_000 * 0.9 / 7 * 0.9  # 1 .. 7 alike
    assert mixed.min() == 1  # at 0 the first style would be gone


def test_no_picture_is_mixed_at_probability_zero():
    assert (style_mixing_crossover(100, 8, 0.0, CPU) == 8).all()

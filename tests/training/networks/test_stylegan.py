"""StyleGAN-lite: what each part of the papers is for is seen in what it does."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from training.errors import RecipeError
from training.networks import layers, stylegan
from training.networks.layers import Phase
from training.validation import validated


def test_stylegan_lite_at_64_px_has_six_million_parameters():
    generator = stylegan.Generator(stylegan.Config(), 64, 3)
    assert sum(p.numel() for p in generator.parameters()) <= 6_000_000
    groups = stylegan.style_groups(64)
    assert generator.style_layers == 10 == sum(map(len, groups.values()))
    assert groups == {"coarse": (0, 1, 2, 3), "middle": (4, 5), "fine": (6, 7, 8, 9)}


def test_an_equalised_layer_keeps_the_variance():
    torch.manual_seed(0)
    x = torch.randn(512, 64)
    assert layers.EqualLinear(64, 64)(x).std().item() == pytest.approx(1, rel=0.1)
    slow = layers.EqualLinear(64, 64, lr_multiplier=0.01)
    assert slow(x).std().item() == pytest.approx(1, rel=0.1)
    assert slow.weight.std().item() == pytest.approx(100, rel=0.1)  # so that a step of Adam is 100 times smaller
    y = layers.EqualConv2d(32, 32, 3)(torch.randn(8, 32, 16, 16))
    assert y[:, :, 1:-1, 1:-1].std().item() == pytest.approx(1, rel=0.1)


def test_adain_gives_every_channel_its_styles_moments():
    x = torch.randn(2, 3, 8, 8) * 7 + 11
    scale, bias = torch.tensor([[1.0, 2.0, 3.0]] * 2), torch.tensor([[-1.0, 0.0, 5.0]] * 2)
    y = stylegan.adain(x, scale, bias)
    torch.testing.assert_close(y.mean(dim=(2, 3)), bias, atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std(dim=(2, 3), unbiased=False), scale, atol=1e-3, rtol=0)


def test_demodulation_is_a_convolution_with_a_kernel_an_image():
    """Karras et al. 2020, eq. 1 and 3, written as they stand: scale the kernel, divide by its norm, convolve."""
    config = stylegan.Config(modulation="demodulation", channel_max=6, w_size=5)
    layer = stylegan.StyledLayer(config, 6, 8)
    assert layer.conv is not None
    x, style = torch.randn(3, 6, 8, 8), torch.randn(3, 6)
    for n in range(3):
        kernel = layer.conv.weight * layer.conv.scale * style[n][None, :, None, None]
        kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected = F.conv2d(x[n : n + 1], kernel, padding=1)
        torch.testing.assert_close(layer.modulated(x, style)[n : n + 1], expected, atol=1e-5, rtol=1e-4)


@pytest.fixture(params=["adain", "demodulation"])
def style_generator(request: pytest.FixtureRequest) -> stylegan.Generator:
    torch.manual_seed(1)
    return stylegan.Generator(
        stylegan.Config(channel_max=16, w_size=16, latent_size=16, modulation=request.param), 32, 3
    )


@torch.no_grad()
def test_every_style_layer_changes_the_picture(style_generator: stylegan.Generator):
    w = style_generator.mapping(torch.randn(2, 16))
    ws = w[:1, None].repeat(1, style_generator.style_layers, 1)
    plain = style_generator.synthesis(ws)
    for k in range(style_generator.style_layers):
        mixed = ws.clone()
        mixed[:, k] = w[1]
        assert (style_generator.synthesis(mixed) - plain).abs().max() > 1e-3, f"layer {k}"


@torch.no_grad()
def test_only_the_direction_of_a_latent_matters(style_generator: stylegan.Generator):
    z = torch.randn(4, 16)
    torch.testing.assert_close(style_generator.mapping(z), style_generator.mapping(3 * z), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_psi_zero_is_the_mean_picture(style_generator: stylegan.Generator):
    pictures = style_generator(torch.randn(4, 16), psi=0.0)
    assert (pictures == pictures[:1]).all()


@torch.no_grad()
def test_a_new_resolution_starts_from_the_one_before(style_generator: stylegan.Generator):
    ws = style_generator.mapping(torch.randn(2, 16))[:, None].expand(-1, style_generator.style_layers, -1)

    def at(stage: int, alpha: float) -> torch.Tensor:
        style_generator.grow_to(Phase(stage, alpha))
        return style_generator.synthesis(ws)

    before, begun, grown = at(2, 1.0), at(3, 0.0), at(3, 1.0)
    torch.testing.assert_close(begun, F.interpolate(before, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(grown, style_generator.synthesis(ws))
    half = at(3, 0.5)
    torch.testing.assert_close(half, (begun + grown) / 2, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_discriminator_grows_without_a_jump():
    discriminator = stylegan.Discriminator(stylegan.Config(channel_max=16), 32, 3)
    images = torch.randn(4, 3, 32, 32)
    whole = discriminator(images)

    def at(stage: int, alpha: float, images: torch.Tensor) -> torch.Tensor:
        discriminator.grow_to(Phase(stage, alpha))
        return discriminator(images)

    torch.testing.assert_close(at(3, 0.0, images), at(2, 1.0, F.avg_pool2d(images, 2)))
    torch.testing.assert_close(at(3, 1.0, images), whole)
    assert not torch.allclose(at(3, 0.0, images), whole)


@torch.no_grad()
def test_the_tracked_mean_is_the_mean_of_w(style_generator: stylegan.Generator):
    for _ in range(1500):
        style_generator.mapping.track_mean(style_generator.mapping(torch.randn(64, 16)))
    expected = style_generator.mapping(torch.randn(50_000, 16)).mean(dim=0)
    spread = style_generator.mapping(torch.randn(1000, 16)).std()
    assert (style_generator.mapping.w_mean - expected).abs().max() < 0.05 * spread + 0.01


@torch.no_grad()
def test_mixing_takes_early_and_late_layers_from_two_latents(style_generator: stylegan.Generator):
    style_generator.synthesis.requires_grad_(False)
    seen = []
    style_generator.synthesis.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    style_generator.fakes(torch.randn(64, 16), None, 1.0)
    (ws,) = seen  # (N, L, W)
    changes = (ws[:, 1:] != ws[:, :-1]).any(dim=2).sum(dim=1)
    assert (changes == 1).all()


@pytest.mark.parametrize("mixing", [0.0, 1.0])
def test_a_training_picture_is_the_synthesis_of_its_styles(style_generator: stylegan.Generator, mixing: float):
    """The same draws, once in one step and once in two, as path length regularisation takes them."""
    z = torch.randn(4, 16)
    style_generator.grow_to(Phase(2, 0.5))
    for layer in style_generator.synthesis.layers:
        layer.noise_strength.data.fill_(1.0)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    before = style_generator.mapping.w_mean.clone()
    torch.manual_seed(2)
    pictures = style_generator.fakes(z, None, mixing)
    assert not torch.equal(style_generator.mapping.w_mean, before)
    torch.manual_seed(2)
    ws = style_generator.styles(z, mixing)
    assert ws.shape == (4, 8, 16)
    again = style_generator.synthesis(ws, random_noise=True)
    torch.testing.assert_close(again, pictures)
    (gradient,) = torch.autograd.grad(again.square().sum(), ws)
    in_use = gradient.abs().sum(dim=(0, 2)) > 0
    assert in_use.tolist() == [True] * 6 + [False] * 2  # the 32 px layers have yet to grow
    if not mixing:
        assert (ws == ws[:, :1]).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latent_size": 0}, "`network.latent_size` (=0) must be at least 1."),
        ({"w_size": 0}, "`network.w_size` (=0) must be at least 1."),
        ({"mapping_layers": 0}, "`network.mapping_layers` (=0) must be at least 1."),
        ({"channel_max": 0}, "`network.channel_max` (=0) must be at least 1."),
        ({"mapping_lr_multiplier": 0.0}, "`network.mapping_lr_multiplier` (=0.0) must be greater than 0."),
        ({"mapping_lr_multiplier": float("nan")}, "`network.mapping_lr_multiplier` (=nan) must be a finite number."),
        ({"channel_base": 16}, "`network.channel_base` (=16) must be at least 32, the pixels."),
    ],
)
def test_a_configuration_that_makes_no_network_is_refused(fields: dict[str, Any], message: str):
    with pytest.raises(RecipeError) as error:
        stylegan.Generator(validated(stylegan.Config, fields, "network"), 32, 3)
    assert str(error.value) == message

"""The networks are the papers', and what each part is for is seen in what it does."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training import recipe
from training.errors import RecipeError
from training.networks import NETWORKS, cgan, dcgan, layers, stylegan
from training.networks.layers import Phase


@pytest.mark.parametrize("name", recipe.available())
def test_every_recipe_builds_networks_of_the_right_shapes(name: str):
    chosen = recipe.load(name)
    size, channels = chosen.data.resolution, 1 if chosen.data.name == "mnist" else 3
    classes = 10 if chosen.family == "cgan" else None
    generator = NETWORKS[chosen.family].Generator(chosen.network, size, channels, classes)  # type: ignore[arg-type]
    discriminator = NETWORKS[chosen.family].Discriminator(chosen.network, size, channels, classes)  # type: ignore[arg-type]
    labels = torch.tensor([1, 2, 3, 4]) if classes else None
    fakes = generator.fakes(torch.randn(4, chosen.network.latent_size), labels, None, chosen.style_mixing)
    assert fakes.shape == (4, channels, size, size)
    assert discriminator(fakes, labels, None).shape == (4,)


def test_dcgan_64_is_the_papers():
    """Figure 1 of Radford et al. 2016: 1024, 512, 256 and 128 channels at 4, 8, 16 and 32 pixels."""
    generator = dcgan.Generator(dcgan.Config(latent_size=100, base_channels=128), 64, 3)
    convolutions = [m for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [
        (100, 1024), (1024, 512), (512, 256), (256, 128), (128, 3)
    ]  # fmt: skip
    assert not any(isinstance(m, nn.Linear | nn.MaxPool2d) for m in generator.modules())
    assert isinstance(generator.layers[-1], nn.Tanh)


def test_dcgan_begins_with_weights_of_deviation_0_02():
    generator = dcgan.Generator(dcgan.Config(base_channels=64), 28, 1)
    for module in generator.modules():
        if isinstance(module, nn.ConvTranspose2d) and module.weight.numel() > 10_000:
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)


def test_a_size_that_a_network_cannot_make_is_refused():
    with pytest.raises(RecipeError, match=r"`data.resolution` \(=30\) must be one of \[28, 32, 64\]"):
        dcgan.Generator(dcgan.Config(), 30, 1)
    with pytest.raises(RecipeError, match=r"`data.resolution` \(=28\) must be a power of two"):
        stylegan.resolutions(28)


def test_stylegan_lite_at_64_px_has_at_most_six_million_parameters():
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


def test_minibatch_deviation_tells_a_collapsed_batch_from_a_varied_one():
    stddev = layers.MinibatchStddev(group=2)
    x = torch.tensor([0.0, 1.0, 4.0, 1.0]).reshape(4, 1, 1, 1)  # groups are pictures 0 and 2, and 1 and 3
    assert stddev(x)[:, 1].flatten().tolist() == pytest.approx([2, 1e-4, 2, 1e-4], abs=1e-3)


def test_adain_gives_every_channel_the_mean_and_deviation_of_its_style():
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
    before = style_generator.synthesis(ws, Phase(2, 1.0))
    begun, grown = (style_generator.synthesis(ws, Phase(3, alpha)) for alpha in (0.0, 1.0))
    torch.testing.assert_close(begun, F.interpolate(before, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(grown, style_generator.synthesis(ws))
    half = style_generator.synthesis(ws, Phase(3, 0.5))
    torch.testing.assert_close(half, (begun + grown) / 2, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_discriminator_grows_without_a_jump():
    discriminator = stylegan.Discriminator(stylegan.Config(channel_max=16), 32, 3)
    images = torch.randn(4, 3, 32, 32)
    begun = discriminator(images, None, Phase(3, 0.0))
    torch.testing.assert_close(begun, discriminator(F.avg_pool2d(images, 2), None, Phase(2, 1.0)))
    torch.testing.assert_close(discriminator(images, None, Phase(3, 1.0)), discriminator(images))
    assert not torch.allclose(begun, discriminator(images))


@torch.no_grad()
def test_the_tracked_mean_is_the_mean_of_w(style_generator: stylegan.Generator):
    for _ in range(1500):
        style_generator.mapping.track_mean(style_generator.mapping(torch.randn(64, 16)))
    expected = style_generator.mapping(torch.randn(50_000, 16)).mean(dim=0)
    spread = style_generator.mapping(torch.randn(1000, 16)).std()
    assert (style_generator.mapping.w_mean - expected).abs().max() < 0.05 * spread + 0.01


@torch.no_grad()
def test_mixing_takes_the_early_layers_from_one_latent_and_the_late_from_another(style_generator: stylegan.Generator):
    style_generator.synthesis.requires_grad_(False)
    seen = []
    style_generator.synthesis.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    style_generator.fakes(torch.randn(64, 16), None, None, 1.0)
    (ws,) = seen  # (N, L, W)
    changes = (ws[:, 1:] != ws[:, :-1]).any(dim=2).sum(dim=1)
    assert (changes == 1).all()


@torch.no_grad()
@pytest.mark.parametrize("of_generator", ["concatenation", "batch_norm"])
@pytest.mark.parametrize("of_discriminator", ["concatenation", "projection"])
def test_the_label_reaches_generator_and_discriminator(of_generator: str, of_discriminator: str):
    config = cgan.Config(
        base_channels=8,
        latent_size=16,
        generator_conditioning=of_generator,  # type: ignore[arg-type]
        discriminator_conditioning=of_discriminator,  # type: ignore[arg-type]
    )
    generator = cgan.Generator(config, 28, 1, 10).eval()
    discriminator = cgan.Discriminator(config, 28, 1, 10).eval()
    pictures = generator(torch.randn(1, 16).expand(10, -1), torch.arange(10))
    logits = discriminator(pictures[:1].expand(10, -1, -1, -1), torch.arange(10))
    assert len(torch.unique(pictures.flatten(1), dim=0)) == 10
    assert len(torch.unique(logits)) == 10


def test_conditional_batch_norm_gives_a_class_its_mean_and_deviation():
    norm = cgan.ConditionalBatchNorm2d(2, 3)
    x, labels = torch.randn(600, 2, 4, 4) * 3 + 1, torch.arange(600) % 3
    y = norm(x, labels)
    for k in range(3):
        found = y[labels == k].transpose(0, 1).flatten(1)  # (C, values)
        torch.testing.assert_close(found.mean(dim=1), norm.bias.weight[k], atol=0.05, rtol=0)
        torch.testing.assert_close(found.std(dim=1), norm.scale.weight[k].abs(), atol=0.05, rtol=0)


def test_a_discriminator_without_batch_norm_judges_each_picture_alone():
    images = torch.randn(4, 1, 28, 28)
    alone = dcgan.Discriminator(dcgan.Config(base_channels=8, discriminator_norm="none"), 28, 1)
    torch.testing.assert_close(alone(images)[:1], alone(images[:1]))
    together = dcgan.Discriminator(dcgan.Config(base_channels=8), 28, 1)
    assert not torch.allclose(together(images)[:1], together(images[:2])[:1])

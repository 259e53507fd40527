"""StyleGAN2 against the equations of its papers, written out plainly."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.errors import RecipeError
from training.networks import stylegan2


def config(**fields: object) -> stylegan2.Config:
    small = {"latent_size": 8, "w_size": 6, "mapping_layers": 2, "channel_base": 64, "channel_max": 5}
    return stylegan2.Config(**(small | fields))  # pyright: ignore[reportArgumentType]


def noisy(generator: stylegan2.Generator) -> stylegan2.Generator:
    """The generator, with noise and biases that show."""
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter += 0.3 * torch.randn_like(parameter)
    return generator.eval()


def upsampled(x: Tensor) -> Tensor:
    """Zeros between the pixels, then the 4x4 filter of gain 4, one output pixel after another."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    n, c, h, w = x.shape
    zeros = torch.zeros(n, c, 2 * h, 2 * w)
    zeros[:, :, ::2, ::2] = x
    padded = F.pad(zeros, (2, 1, 2, 1))
    out = torch.zeros(n, c, 2 * h, 2 * w)
    for i in range(4):
        for j in range(4):
            out += 4 * taps[i] * taps[j] * padded[:, :, i : i + 2 * h, j : j + 2 * w]
    return out


def modulated(x: Tensor, weight: Tensor, style: Tensor, *, upsample: bool, demodulate: bool) -> Tensor:
    """Karras et al. 2020, equations 1 and 3, with a kernel per image; upsampling before the convolution."""
    kernels = weight[None] * style[:, None, :, None, None]  # (N, out, in, k, k)
    if demodulate:
        kernels = kernels / (kernels.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).sqrt()
    pad = weight.shape[-1] // 2
    if upsample:  # a convolution proper, so with the kernel turned, of the upsampled image and its surroundings
        x, kernels = upsampled(F.pad(x, (1, 1, 1, 1))), kernels.flip(3, 4)
        pad = 0
    y = torch.cat([F.conv2d(image[None], kernel, padding=pad) for image, kernel in zip(x, kernels, strict=True)])
    return y[:, :, 1:-1, 1:-1] if upsample else y


def affine(layer: torch.nn.Module, w: Tensor) -> Tensor:
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    return w @ weight.t() / math.sqrt(w.shape[1]) + bias


def styled(layer: stylegan2.StyledConv, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
    y = modulated(x, layer.weight, affine(layer.affine, w), upsample=layer.upsample, demodulate=True)
    y = y + layer.noise_const * layer.noise_strength + layer.bias[:, None, None]
    y = F.leaky_relu(y, 0.2) * math.sqrt(2) * gain
    return y if layer.clamp is None else y.clamp(-layer.clamp * gain, layer.clamp * gain)


def reference(generator: stylegan2.Generator, ws: Tensor) -> Tensor:
    """The image of ws (N, L, W), block by block."""
    x = image = None
    taken = 0
    for size in generator.synthesis.resolutions:
        block = generator.synthesis.get_submodule(f"b{size}")
        assert isinstance(block, stylegan2.Block)
        shortcut = None
        if block.conv0 is None:
            x = block.const[None].repeat(len(ws), 1, 1, 1)
        else:
            assert x is not None
            if block.skip is not None:
                shortcut = upsampled(F.conv2d(x, block.skip.weight / math.sqrt(x.shape[1]))) * math.sqrt(0.5)
            x = styled(block.conv0, x, ws[:, taken])
            taken += 1
        x = styled(block.conv1, x, ws[:, taken], math.sqrt(0.5) if block.skip is not None else 1.0)
        taken += 1
        if shortcut is not None:
            x = x + shortcut
        image = None if image is None else upsampled(image)
        if block.torgb is not None:
            style = affine(block.torgb.affine, ws[:, taken]) / math.sqrt(x.shape[1])
            rgb = modulated(x, block.torgb.weight, style, upsample=False, demodulate=False)
            rgb = rgb + block.torgb.bias[:, None, None]
            rgb = rgb if block.torgb.clamp is None else rgb.clamp(-block.torgb.clamp, block.torgb.clamp)
            image = rgb if image is None else image + rgb
    assert image is not None and taken + 1 == ws.shape[1]
    return image


@pytest.mark.parametrize("clamp", [None, 0.7])
@pytest.mark.parametrize("architecture", ["skip", "resnet"])
@torch.no_grad()
def test_the_image_is_that_of_the_papers_equations(architecture: str, clamp: float | None):
    torch.manual_seed(0)
    generator = noisy(stylegan2.Generator(config(architecture=architecture, conv_clamp=clamp), 32, 3))
    ws = torch.randn(3, generator.style_layers, 6)
    expected = reference(generator, ws)
    assert expected.std() > 0.1
    torch.testing.assert_close(generator.synthesis(ws), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_class_changes_what_a_latent_maps_to():
    torch.manual_seed(0)
    generator = stylegan2.Generator(config(), 8, 1, classes=3)
    w = generator.mapping(torch.ones(3, 8), torch.tensor([0, 1, 1]))
    assert not torch.allclose(w[0], w[1]) and torch.equal(w[1], w[2])


@torch.no_grad()
def test_every_style_changes_the_image_and_psi_zero_is_the_mean():
    torch.manual_seed(0)
    generator = noisy(stylegan2.Generator(config(), 16, 3))
    generator.mapping.track_mean(torch.randn(4, 6))
    ws = torch.randn(2, 6, 6)
    plain = generator.synthesis(ws)
    for layer in range(6):
        mixed = ws.clone()
        mixed[:, layer] = ws[:, layer].flip(0)
        assert not torch.allclose(generator.synthesis(mixed), plain)
    mean = generator(torch.randn(2, 8), psi=0.0)
    assert torch.allclose(mean[0], mean[1]) and generator.mapping.w_mean.abs().sum() > 0


@pytest.mark.parametrize(
    ("resolution", "ends"), [(4, (2, 2, 2)), (16, (2, 4, 6)), (32, (4, 6, 8)), (64, (4, 8, 10)), (1024, (4, 8, 18))]
)
def test_style_groups_are_the_papers_from_64_pixels_on(resolution: int, ends: tuple[int, int, int]):
    groups = stylegan2.style_groups(resolution)
    assert [layer for group in groups.values() for layer in group] == list(range(ends[2]))
    assert len(groups["coarse"]) == ends[0] and len(groups["coarse"] + groups["middle"]) == ends[1]


def test_a_published_generator_of_1024_pixels_has_30_million_parameters():
    with torch.device("meta"):
        generator = stylegan2.Generator(stylegan2.Config(), 1024, 3)
    assert sum(each.numel() for each in generator.parameters()) == 30_370_060
    assert generator.style_layers == 18


def test_other_resolutions_are_refused():
    with pytest.raises(RecipeError, match="power of two"):
        stylegan2.Generator(config(), 48, 3)


def test_the_discriminator_halves_without_shifting():
    """A horizontally symmetric image gives the same features as its mirror image."""
    torch.manual_seed(0)
    block = stylegan2.Halving(2, 3)
    with torch.no_grad():
        for conv in (block.conv0, block.conv1, block.skip):
            conv.weight.copy_((conv.weight + conv.weight.flip(3)) / 2)
        x = torch.randn(1, 2, 8, 8)
        torch.testing.assert_close(block(x.flip(3)), block(x).flip(3))
        assert block(x).shape == (1, 3, 4, 4)

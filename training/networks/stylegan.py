"""StyleGAN-lite: Karras et al., "A style-based generator architecture for GANs" (2019), small enough for a CPU.

Kept from the paper: z normalised, a mapping network with equalised learning rates, a learned 4x4 constant, one style
and one noise input a layer, AdaIN (or, by configuration, the weight demodulation of Karras et al. 2020), mixing
regularisation, a tracked mean w, progressive growing with fade-in (Karras et al. 2018), minibatch standard deviation
in the discriminator, in whose place a DCGAN's may stand. toRGB is skip-free and carries no style: what a layer's style
does is seen in that layer alone.
Left out: blur filters (bilinear upsampling and average pooling stand in for them).
Where the resolution changes, the convolution runs on the smaller side: half the work of the paper's network at 32 px.

Layer 2k and 2k + 1 work at 4 * 2^k pixels, so an R px generator has L = 2 log2(R) - 2 styles.
"""

import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.errors import RecipeError
from training.networks import dcgan
from training.networks.config import patches
from training.networks.layers import (
    EqualConv2d,
    EqualLinear,
    MinibatchDiscrimination,
    MinibatchStddev,
    Phase,
    leaky_relu,
)
from training.regularizers import style_mixing_crossover
from training.validation import CHECKED, Count, CountOrNone, Positive


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Config:
    latent_size: Count = 128
    w_size: Count = 128
    mapping_layers: Count = 4
    channel_base: Count = 2048  # channels at R px are channel_base / R ...
    channel_max: Count = 128  # ... but no more than this
    modulation: Literal["adain", "demodulation"] = "adain"
    mapping_lr_multiplier: Positive = 0.01
    # progressive: Karras et al. 2018, which can grow, with equalised learning rates and minibatch standard deviation;
    # dcgan: the strided convolutions of Radford et al. 2016, without a norm
    discriminator: Literal["progressive", "dcgan"] = "progressive"
    discriminator_base_channels: Count = 64  # of the dcgan one, at half the image's resolution
    minibatch_discrimination: CountOrNone = 0  # kernels of minibatch discrimination in D; 0: none
    # Both networks work on squares of patch x patch pixels as channels, at 1 / patch of the resolution: a pixel shuffle
    # (Shi et al. 2016, eq. 4) makes the image, and D begins with its inverse. 64 px with patch 2 cost what 32 px do.
    patch: Count = 1

    def __post_init__(self) -> None:
        base = self.discriminator_base_channels
        if self.discriminator != "dcgan" and base != Config.discriminator_base_channels:
            raise RecipeError(
                f"`network.discriminator_base_channels` (={base}) needs `network.discriminator` "
                f"(={self.discriminator!r}) to be 'dcgan'; `network.channel_base` makes this one wider or narrower."
            )

    def dcgan_discriminator(self) -> dcgan.Config:
        """What `discriminator` "dcgan" is made from."""
        return dcgan.Config(
            base_channels=self.discriminator_base_channels,
            patch=self.patch,
            discriminator_norm="none",
            minibatch_discrimination=self.minibatch_discrimination,
        )

    def channels(self, resolution: int) -> int:
        """Channels at `resolution` pixels. Raises RecipeError where `channel_base` leaves none."""
        if self.channel_base < resolution:
            raise RecipeError(
                f"`network.channel_base` (={self.channel_base}) must be at least {resolution}, the pixels."
            )
        return min(self.channel_base // resolution, self.channel_max)


def resolutions(resolution: int) -> list[int]:
    """4, 8, ... up to `resolution`, which must be a power of two of at least 8."""
    if resolution < 8 or resolution & (resolution - 1):
        raise RecipeError(
            f"`data.resolution` divided by `network.patch` (={resolution}) must be a power of two of at least 8 "
            "for StyleGAN-lite."
        )
    return [1 << k for k in range(2, resolution.bit_length())]


def style_groups(resolution: int) -> dict[str, tuple[int, ...]]:
    """The style layers that are coarse (4 and 8 px), middle (16 px) and fine (32 px and up)."""
    groups: dict[str, tuple[int, ...]] = {"coarse": (), "middle": (), "fine": ()}
    for k, r in enumerate(resolutions(resolution)):
        name = "coarse" if r <= 8 else "middle" if r == 16 else "fine"
        groups[name] += (2 * k, 2 * k + 1)
    return groups


class Mapping(nn.Module):
    """z (N, Z) -> w (N, W), with the running mean of w for truncation."""

    w_mean: Tensor

    def __init__(self, config: Config):
        super().__init__()
        sizes = [config.latent_size] + [config.w_size] * config.mapping_layers
        self.layers = nn.ModuleList(
            EqualLinear(a, b, lr_multiplier=config.mapping_lr_multiplier) for a, b in itertools.pairwise(sizes)
        )
        self.register_buffer("w_mean", torch.zeros(config.w_size))

    def forward(self, z: Tensor) -> Tensor:
        x = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        for layer in self.layers:
            x = leaky_relu(layer(x))
        return x

    @torch.no_grad()
    def track_mean(self, w: Tensor, decay: float = 0.995) -> None:
        """Moves `w_mean` towards the mean of w (N, W) (decay of Karras et al. 2019's code)."""
        self.w_mean.lerp_(w.float().mean(dim=0), 1 - decay)


def truncate(w: Tensor, w_mean: Tensor, psi: Tensor) -> Tensor:
    """The truncation trick a layer (Karras et al. 2019, section B): w (N, W), psi (N, L) -> ws (N, L, W)."""
    return w_mean + psi[:, :, None] * (w[:, None, :] - w_mean)


def adain(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Adaptive instance normalisation (Karras et al. 2019, eq. 1). x (N, C, H, W), scale and bias (N, C)."""
    variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    gain = scale[:, :, None, None] * torch.rsqrt(variance + 1e-5)
    return torch.addcmul(bias[:, :, None, None], x - mean, gain)


class StyledLayer(nn.Module):
    """One style layer: (convolution and upsampling), noise, LeakyReLU, and the style w (N, W).

    x (N, in, H, W) -> (N, out, H, W), or twice the size with `upsample`. Without `in_channels` there is no convolution:
    the layer that styles the constant.
    """

    noise: Tensor

    def __init__(self, config: Config, in_channels: int | None, resolution: int, upsample: bool = False):
        super().__init__()
        channels = config.channels(resolution)
        self.upsample = upsample
        self.demodulate = config.modulation == "demodulation"
        self.conv = EqualConv2d(in_channels, channels, 3, bias=False) if in_channels else None
        self.bias = nn.Parameter(torch.zeros(channels))
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.register_buffer("noise", torch.randn(1, 1, resolution, resolution))  # what the exported graph uses
        if self.demodulate:
            self.style = EqualLinear(config.w_size, in_channels or channels, bias=1.0)
        else:
            self.style = EqualLinear(config.w_size, 2 * channels)

    def forward(self, x: Tensor, w: Tensor, random_noise: bool) -> Tensor:
        style = self.style(w)
        if self.demodulate:
            x = self.modulated(x, style)
        elif self.conv is not None:
            x = self.conv(x)
        if self.upsample:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        noise = torch.randn_like(x[:, :1]) if random_noise else self.noise.to(x.dtype)
        x = leaky_relu(x + noise * self.noise_strength.to(x.dtype) + self.bias.to(x.dtype)[:, None, None])
        if self.demodulate:
            return x
        scale, bias = style.to(x.dtype).chunk(2, dim=1)
        return adain(x, scale + 1, bias)

    def modulated(self, x: Tensor, style: Tensor) -> Tensor:
        """Weight demodulation (Karras et al. 2020, eq. 1 and 3) as input scale, plain convolution, output scale.

        The same function as a convolution with a kernel an image, in operators that every ONNX runtime has.
        """
        x = x * style.to(x.dtype)[:, :, None, None]
        if self.conv is None:
            return x
        kernel = self.conv.weight * self.conv.scale  # (out, in, 3, 3)
        energy = style.float().square() @ kernel.float().square().sum(dim=(2, 3)).t()  # (N, out)
        return self.conv(x) * torch.rsqrt(energy + 1e-8).to(x.dtype)[:, :, None, None]


class Synthesis(nn.Module):
    """ws (N, L, W) -> images (N, C, R, R), about [-1, 1]."""

    def __init__(self, config: Config, resolution: int, channels: int):
        super().__init__()
        self.resolutions = resolutions(patches(resolution, config.patch))
        self.phase = Phase(len(self.resolutions) - 1, 1.0)  # whole
        self.patch = config.patch
        self.constant = nn.Parameter(torch.randn(1, config.channels(4), 4, 4))
        self.layers = nn.ModuleList()
        self.to_rgb = nn.ModuleList()
        for r in self.resolutions:
            first_in = None if r == 4 else config.channels(r // 2)
            self.layers.append(StyledLayer(config, first_in, r, upsample=r > 4))
            self.layers.append(StyledLayer(config, config.channels(r), r))
            self.to_rgb.append(EqualConv2d(config.channels(r), channels * config.patch**2, 1))

    def grow_to(self, phase: Phase) -> None:
        """Uses the network as far as `phase`, until told otherwise."""
        self.phase = phase

    def forward(self, ws: Tensor, random_noise: bool = False) -> Tensor:
        """Images of the network as far as it has grown. The noise is drawn anew, or the constant one."""
        stage, alpha = self.phase
        x = self.constant.expand(ws.shape[0], -1, -1, -1)
        previous = x
        for k in range(stage + 1):
            previous = x
            x = self.layers[2 * k](x, ws[:, 2 * k], random_noise)
            x = self.layers[2 * k + 1](x, ws[:, 2 * k + 1], random_noise)
        image = self.to_rgb[stage](x)
        if alpha < 1:
            small = F.interpolate(self.to_rgb[stage - 1](previous), scale_factor=2, mode="nearest")
            image = small + alpha * (image - small)
        return F.pixel_shuffle(image, self.patch) if self.patch > 1 else image


class Generator(nn.Module):
    """Mapping and synthesis. z (N, Z) -> images (N, C, R, R), about [-1, 1]."""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int | None = None):
        super().__init__()
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config, resolution, channels)
        self.style_layers = len(self.synthesis.layers)

    def forward(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """The image of each z, with the constant noise, as the exported graph gives it."""
        return self.synthesis(truncate(self.mapping(z), self.mapping.w_mean, z.new_full((1, self.style_layers), psi)))

    def grow_to(self, phase: Phase) -> None:
        """Uses the network as far as `phase`, until told otherwise."""
        self.synthesis.grow_to(phase)

    def styles(self, z: Tensor, style_mixing: float) -> Tensor:
        """z (N, Z) -> ws (N, L, W) for a training step: mixed with probability `style_mixing`, the mean w tracked."""
        w = self.mapping(z)
        self.mapping.track_mean(w)
        layers = 2 * (self.synthesis.phase.stage + 1)  # those in use
        ws = w[:, None, :].expand(-1, self.style_layers, -1)
        if style_mixing:
            crossover = style_mixing_crossover(len(z), layers, style_mixing, z.device)
            second = self.mapping(torch.randn_like(z))[:, None, :]
            keep = torch.arange(self.style_layers, device=z.device) < crossover[:, None]  # (N, L)
            ws = torch.where(keep[:, :, None], ws, second)
        return ws

    def fakes(self, z: Tensor, labels: Tensor | None, style_mixing: float) -> Tensor:
        """Images for a training step, with fresh noise."""
        return self.synthesis(self.styles(z, style_mixing), random_noise=True)


class Discriminator(nn.Module):
    """images (N, C, r, r) in [-1, 1] -> logits (N,); r is the resolution of the phase."""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int | None = None):
        super().__init__()
        self.resolutions = resolutions(patches(resolution, config.patch))
        self.phase = Phase(len(self.resolutions) - 1, 1.0)  # whole
        self.patch = config.patch
        planes = channels * config.patch**2
        self.from_rgb = nn.ModuleList(EqualConv2d(planes, config.channels(r), 1) for r in self.resolutions)
        self.blocks = nn.ModuleList(  # blocks[k] halves resolutions[k + 1]
            nn.ModuleList(
                [
                    EqualConv2d(config.channels(r), config.channels(r), 3),
                    EqualConv2d(config.channels(r), config.channels(r // 2), 3),
                ]
            )
            for r in self.resolutions[1:]
        )
        width = config.channels(4)
        self.stddev = MinibatchStddev()
        self.last_conv = EqualConv2d(width + 1, width, 3)
        features, kernels = width * 16, config.minibatch_discrimination
        self.nearness = MinibatchDiscrimination(features, kernels) if kernels else nn.Identity()
        self.hidden = EqualLinear(features + kernels, width)
        self.logit = EqualLinear(width, 1)

    def grow_to(self, phase: Phase) -> None:
        """Uses the network as far as `phase`, until told otherwise."""
        self.phase = phase

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.logit(self.features(images, labels)).flatten()

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Features that the logit is computed from, (N, F)."""
        stage, alpha = self.phase
        if self.patch > 1:
            images = F.pixel_unshuffle(images, self.patch)  # (N, C p^2, r / p, r / p)
        x = leaky_relu(self.from_rgb[stage](images))
        for k in range(stage, 0, -1):
            first, second = self.blocks[k - 1]  # pyright: ignore[reportGeneralTypeIssues]
            x = F.avg_pool2d(leaky_relu(first(x)), 2)
            x = leaky_relu(second(x))
            if k == stage and alpha < 1:
                small = leaky_relu(self.from_rgb[stage - 1](F.avg_pool2d(images, 2)))
                x = small + alpha * (x - small)
        x = leaky_relu(self.last_conv(self.stddev(x))).flatten(1)
        return leaky_relu(self.hidden(self.nearness(x)))

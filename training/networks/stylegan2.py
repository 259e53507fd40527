"""StyleGAN2: Karras et al., "Analyzing and improving the image quality of StyleGAN" (2020), and "Training generative
adversarial networks with limited data" (2020), whose class-conditional mapping network it has.

Written from the papers. Parameters have the names and the run-time gains of the published checkpoints, so a
`state_dict` of one fits (see `training.publish.import_`). A modulated convolution is written as input scale, plain
convolution and output scale: the same function as a kernel per image, in operators that export with a dynamic batch.

A block works at R = 4, 8, ... px. It takes one w for each of its convolutions; its toRGB shares the w of the next
block's first convolution, so an R px generator has L = 2 log2(R) - 2 styles.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.errors import RecipeError
from training.networks.layers import LRELU_GAIN, EqualConv2d, EqualLinear, MinibatchStddev, leaky_relu
from training.networks.stylegan import truncate
from training.regularizers import style_mixing_crossover
from training.validation import CHECKED, Count, Positive

MAPPING_LR = 0.01  # Karras et al. 2019, appendix B
MEAN_DECAY = 0.998  # of the running mean of w
TAPS = (1.0, 3.0, 3.0, 1.0)  # low-pass filter (Karras et al. 2020, appendix B)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Config:
    latent_size: Count = 512
    w_size: Count = 512
    mapping_layers: Count = 8
    channel_base: Count = 32768  # channels at R px are channel_base / R ...
    channel_max: Count = 512  # ... but no more than this
    architecture: Literal["skip", "resnet"] = "skip"  # of the generator; the discriminator is residual
    conv_clamp: Positive | None = None  # activations stay within +- this: 256 where the paper's code runs in float16

    def channels(self, resolution: int) -> int:
        """Channels at `resolution` pixels. Raises RecipeError where `channel_base` leaves none."""
        if self.channel_base < resolution:
            raise RecipeError(
                f"`network.channel_base` (={self.channel_base}) must be at least {resolution}, the pixels."
            )
        return min(self.channel_base // resolution, self.channel_max)


def resolutions(resolution: int) -> list[int]:
    """Return 4, 8, ... up to `resolution`. Raises RecipeError where that is no power of two from 4 up."""
    if resolution < 4 or resolution & (resolution - 1):
        raise RecipeError(f"`data.resolution` (={resolution}) must be a power of two of at least 4 for StyleGAN2.")
    return [1 << k for k in range(2, resolution.bit_length())]


def style_groups(resolution: int) -> dict[str, tuple[int, ...]]:
    """Return the coarse (4 to 8 px), middle (16 to 32 px) and fine (64 px and up) styles (Karras et al. 2019, 3.1).

    Up to 32 px that would leave fine styles out: there the two highest resolutions are middle and fine.
    """
    sizes = resolutions(resolution)
    fine = min(64, sizes[-1])  # the first resolution of each group
    middle = min(16, fine // 2)
    groups: dict[str, tuple[int, ...]] = {"coarse": (), "middle": (), "fine": ()}
    for k, size in enumerate(sizes):
        name = "coarse" if size < middle or k == 0 else "middle" if size < fine else "fine"
        groups[name] += (2 * k, 2 * k + 1)
    return groups


class Mapping(nn.Module):
    """z (N, Z), for a conditional one with class labels (N,) -> w (N, W); keeps the running mean of w."""

    w_avg: Tensor

    def __init__(self, config: Config, classes: int | None = None):
        super().__init__()
        self.depth = config.mapping_layers
        self.embed = EqualLinear(classes, config.w_size) if classes else None
        size = config.latent_size + (config.w_size if classes else 0)
        for k in range(self.depth):
            self.add_module(f"fc{k}", EqualLinear(size, config.w_size, lr_multiplier=MAPPING_LR))
            size = config.w_size
        self.register_buffer("w_avg", torch.zeros(config.w_size))

    @property
    def w_mean(self) -> Tensor:
        """The mean w (W,), which truncation moves towards."""
        return self.w_avg

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        x = normalised(z)
        if self.embed is not None:
            assert labels is not None, "a conditional mapping network needs labels"
            table = self.embed.weight.t() * self.embed.scale + self.embed.bias  # (classes, W)
            x = torch.cat([x, normalised(F.embedding(labels, table))], dim=1)
        for k in range(self.depth):
            x = leaky_relu(self.get_submodule(f"fc{k}")(x))
        return x

    @torch.no_grad()
    def track_mean(self, w: Tensor) -> None:
        """Moves the mean towards that of w (N, W)."""
        self.w_avg.lerp_(w.float().mean(dim=0), 1 - MEAN_DECAY)


def normalised(x: Tensor) -> Tensor:
    """Scales every row of x (N, F) to a mean square of 1."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class Filtered(nn.Module):
    """A module with the low-pass filter, (4, 4) with sum 1."""

    resample_filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor(TAPS)
        self.register_buffer("resample_filter", torch.outer(taps, taps) / taps.sum() ** 2)

    def depthwise(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """The filter as the kernel of a depthwise convolution of x (N, C, H, W): (C, 1, 4, 4)."""
        return (self.resample_filter * gain).to(x.dtype).expand(x.shape[1], 1, -1, -1)

    def smoothed(self, x: Tensor, gain: float, padding: int) -> Tensor:
        """x (N, C, H, W) -> (N, C, H + 2 padding - 3, W + 2 padding - 3)."""
        return F.conv2d(x, self.depthwise(x, gain), padding=padding, groups=x.shape[1])

    def doubled(self, x: Tensor) -> Tensor:
        """Twice the resolution: zeros between the pixels, then the filter. (N, C, H, W) -> (N, C, 2 H, 2 W)."""
        return F.conv_transpose2d(x, self.depthwise(x, 4.0), stride=2, padding=1, groups=x.shape[1])


class StyledConv(Filtered):
    """3x3 convolution with weight modulation and demodulation (Karras et al. 2020, eqs. 1 and 3), noise, LeakyReLU.

    x (N, in, H, W), w (N, W) -> (N, out, R, R), where R is H or, with `upsample`, 2 H.
    """

    noise_const: Tensor

    def __init__(
        self, config: Config, in_channels: int, out_channels: int, resolution: int, *, upsample: bool, gain: float = 1.0
    ):
        super().__init__()
        self.upsample, self.gain, self.clamp = upsample, gain, config.conv_clamp
        self.affine = EqualLinear(config.w_size, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))  # what the exported graph uses

    def forward(self, x: Tensor, w: Tensor, random_noise: bool) -> Tensor:
        style = self.affine(w)  # (N, in)
        energy = style.float().square() @ self.weight.float().square().sum(dim=(2, 3)).t()  # (N, out)
        x = x * style.to(x.dtype)[:, :, None, None]
        if self.upsample:
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)  # (N, out, 2 H + 1, 2 W + 1)
            x = self.smoothed(x, gain=4.0, padding=1)
        else:
            x = F.conv2d(x, self.weight, padding=1)
        # LeakyReLU(g x) = g LeakyReLU(x) for g > 0: its gain is applied to the small factors in front of it
        gain = self.gain * LRELU_GAIN
        x = x * (torch.rsqrt(energy + 1e-8) * gain).to(x.dtype)[:, :, None, None]
        noise = torch.randn_like(x[:, :1]) if random_noise else self.noise_const.to(x.dtype)
        x = x + noise * (self.noise_strength * gain).to(x.dtype) + (self.bias * gain).to(x.dtype)[:, None, None]
        return clamped(F.leaky_relu(x, 0.2), self.clamp, self.gain)


class ToRGB(nn.Module):
    """1x1 convolution with weight modulation and no demodulation. x (N, in, R, R), w (N, W) -> (N, C, R, R)."""

    def __init__(self, config: Config, in_channels: int, channels: int):
        super().__init__()
        self.clamp = config.conv_clamp
        self.affine = EqualLinear(config.w_size, in_channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * self.scale
        x = F.conv2d(x * style.to(x.dtype)[:, :, None, None], self.weight)
        return clamped(x + self.bias.to(x.dtype)[:, None, None], self.clamp)


def clamped(x: Tensor, limit: float | None, gain: float = 1.0) -> Tensor:
    """x within +- limit * gain."""
    return x if limit is None else x.clamp(-limit * gain, limit * gain)


class Shortcut(Filtered):
    """1x1 convolution and upsampling beside a residual block. (N, in, H, W) -> (N, out, 2 H, 2 W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.scale = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.doubled(F.conv2d(x, self.weight * self.scale))


class Block(Filtered):
    """The layers of one resolution. x (N, in, R / 2, R / 2) and the image so far -> x (N, out, R, R) and the image."""

    def __init__(self, config: Config, resolution: int, channels: int, *, last: bool):
        super().__init__()
        width = config.channels(resolution)
        residual = config.architecture == "resnet" and resolution > 4
        gain = math.sqrt(0.5) if residual else 1.0  # keeps the variance of a sum of two
        self.shortcut_gain = gain
        if resolution == 4:
            self.const = nn.Parameter(torch.randn(width, 4, 4))
            self.conv0 = None
        else:
            self.conv0 = StyledConv(config, config.channels(resolution // 2), width, resolution, upsample=True)
        self.conv1 = StyledConv(config, width, width, resolution, upsample=False, gain=gain)
        self.skip = Shortcut(config.channels(resolution // 2), width) if residual else None
        self.torgb = ToRGB(config, width, channels) if last or config.architecture == "skip" else None

    def forward(
        self, x: Tensor | None, image: Tensor | None, ws: list[Tensor], random_noise: bool
    ) -> tuple[Tensor, Tensor | None]:
        """ws: one w (N, W) for each convolution, and the next for toRGB."""
        if self.conv0 is None or x is None:
            y = self.const.expand(ws[0].shape[0], -1, -1, -1)
        else:
            y = self.conv0(x, ws[0], random_noise)
        y = self.conv1(y, ws[-2], random_noise)
        if self.skip is not None and x is not None:
            y = y + self.skip(x) * self.shortcut_gain
        if image is not None:
            image = self.doubled(image)
        if self.torgb is not None:
            rgb = self.torgb(y, ws[-1])
            image = rgb if image is None else image + rgb
        return y, image


class Synthesis(nn.Module):
    """ws (N, L, W) -> images (N, C, R, R), about [-1, 1]."""

    def __init__(self, config: Config, resolution: int, channels: int):
        super().__init__()
        self.resolutions = resolutions(resolution)
        for size in self.resolutions:
            self.add_module(f"b{size}", Block(config, size, channels, last=size == resolution))

    def forward(self, ws: Tensor, random_noise: bool = False) -> Tensor:
        """The noise is drawn anew, or the constant one."""
        x = image = None
        styles = list(ws.unbind(dim=1))
        for k, size in enumerate(self.resolutions):
            first = max(0, 2 * k - 1)
            x, image = self.get_submodule(f"b{size}")(x, image, styles[first : 2 * k + 2], random_noise)
        assert image is not None
        return image


class Generator(nn.Module):
    """Mapping and synthesis. z (N, Z), labels (N,) where conditional -> images (N, C, R, R), about [-1, 1]."""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int | None = None):
        super().__init__()
        self.mapping = Mapping(config, classes)
        self.synthesis = Synthesis(config, resolution, channels)
        self.style_layers = 2 * len(self.synthesis.resolutions)

    def forward(self, z: Tensor, labels: Tensor | None = None, psi: float = 1.0) -> Tensor:
        """The image of each z, with the constant noise, as the exported graph gives it."""
        strengths = z.new_full((1, self.style_layers), psi)
        return self.synthesis(truncate(self.mapping(z, labels), self.mapping.w_mean, strengths))

    def styles(self, z: Tensor, style_mixing: float) -> Tensor:
        """z (N, Z) -> ws (N, L, W) for a training step: mixed with probability `style_mixing`, the mean w tracked."""
        w = self.mapping(z)
        self.mapping.track_mean(w)
        ws = w[:, None, :].expand(-1, self.style_layers, -1)
        if style_mixing:
            crossover = style_mixing_crossover(len(z), self.style_layers, style_mixing, z.device)
            second = self.mapping(torch.randn_like(z))[:, None, :]
            keep = torch.arange(self.style_layers, device=z.device) < crossover[:, None]  # (N, L)
            ws = torch.where(keep[:, :, None], ws, second)
        return ws

    def fakes(self, z: Tensor, labels: Tensor | None, style_mixing: float) -> Tensor:
        """Images for a training step, with fresh noise."""
        return self.synthesis(self.styles(z, style_mixing), random_noise=True)


class Halving(Filtered):
    """Residual block of the discriminator (Karras et al. 2020, figure 7). (N, in, H, W) -> (N, out, H / 2, W / 2)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv0 = EqualConv2d(in_channels, in_channels, 3)
        self.conv1 = EqualConv2d(in_channels, out_channels, 3)
        self.skip = EqualConv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.smoothed(leaky_relu(self.conv0(x)), gain=1.0, padding=2)  # (N, in, H + 1, W + 1)
        y = F.conv2d(y, self.conv1.weight * self.conv1.scale, self.conv1.bias, stride=2)
        x = self.skip(self.smoothed(x, gain=1.0, padding=1)[:, :, ::2, ::2])
        return (leaky_relu(y) + x) * math.sqrt(0.5)


class Discriminator(nn.Module):
    """images (N, C, R, R) in [-1, 1] -> logits (N,)."""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int | None = None):
        super().__init__()
        sizes = resolutions(resolution)
        self.from_rgb = EqualConv2d(channels, config.channels(resolution), 1)
        self.blocks = nn.Sequential(
            *(Halving(config.channels(size), config.channels(size // 2)) for size in reversed(sizes[1:]))
        )
        width = config.channels(4)
        self.stddev = MinibatchStddev()
        self.last_conv = EqualConv2d(width + 1, width, 3)
        self.hidden = EqualLinear(width * 16, width)
        self.logit = EqualLinear(width, 1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.logit(self.features(images, labels)).flatten()

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Features that the logit is computed from, (N, F)."""
        x = self.blocks(leaky_relu(self.from_rgb(images)))
        x = leaky_relu(self.last_conv(self.stddev(x)))
        return leaky_relu(self.hidden(x.flatten(1)))

"""DCGAN: Radford, Metz and Chintala, "Unsupervised representation learning with deep convolutional GANs" (2016).

Transposed convolutions, batch normalisation, ReLU and tanh in the generator; strided convolutions, batch normalisation
and LeakyReLU 0.2 in the discriminator; no fully connected layers; weights from N(0, 0.02). At 64 px with 128 base
channels this is the paper's figure 1. At 28 px the first map is 7 x 7 and there are two doublings.

Instead of batch normalisation the discriminator may have spectral normalisation: Miyato et al., "Spectral normalization
for generative adversarial networks" (2018).
"""

from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.errors import RecipeError
from training.networks.config import DiscriminatorConfig, patches
from training.networks.layers import normal_initialisation, spectrally_normalise
from training.validation import CHECKED, Count

DOUBLINGS = {28: 2, 32: 3, 64: 4}  # resolution -> how often the first map (7 or 4 px) is doubled


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Config(DiscriminatorConfig):
    latent_size: Count = 100
    base_channels: Count = 64  # channels at half the image's resolution; doubled at each halving
    # batch: the paper's; none or spectral with a penalty on each image's gradient, for the first mixes the images
    discriminator_norm: Literal["batch", "none", "spectral"] = "batch"
    # generator: the paper's transposed convolutions; or, against their checkerboard (Odena et al. 2016), resizing and a
    # 3 x 3 convolution, or a 3 x 3 convolution and a pixel shuffle with ICNR (Aitken et al. 2017)
    upsampling: Literal["transposed", "resize", "shuffle"] = "transposed"
    patch: Count = 1  # both networks work on squares of patch x patch pixels as channels; 1: on pixels


def doublings(resolution: int, patch: int = 1) -> int:
    """Return how many stride-2 layers lie between the first map and an image of `resolution` pixels."""
    size = patches(resolution, patch)
    if size not in DOUBLINGS:
        sizes = [patch * known for known in sorted(DOUBLINGS)]
        raise RecipeError(
            f"`data.resolution` (={resolution}) must be one of {sizes} for this network with `network.patch` {patch}."
        )
    return DOUBLINGS[size]


def doubling(upsampling: str, channels: int, out: int, *, bias: bool = True) -> list[nn.Module]:
    """Return the layers that make (N, out, 2H, 2W) of (N, channels, H, W)."""
    if upsampling == "resize":
        return [nn.Upsample(scale_factor=2), nn.Conv2d(channels, out, 3, padding=1, bias=bias)]
    if upsampling == "shuffle":
        return [nn.Conv2d(channels, 4 * out, 3, padding=1, bias=bias), nn.PixelShuffle(2)]
    return [nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1, bias=bias)]


def icnr_(weight: Tensor) -> None:
    """Give the 4 channels of each pixel shuffle's square the same kernel: it starts as nearest-neighbour resizing.

    Weight (4 * out, in, h, w), in place (Aitken et al. 2017, section 4).
    """
    with torch.no_grad():
        weight.copy_(weight[::4].repeat_interleave(4, dim=0))


class Generator(nn.Module):
    """z (N, Z) -> images (N, C, R, R) in [-1, 1]."""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int | None = None):
        super().__init__()
        steps = doublings(resolution, config.patch)
        width = config.base_channels << (steps - 1)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(
                config.latent_size, width, patches(resolution, config.patch) >> steps, bias=False
            ),  # (N, width, 4 or 7, 4 or 7)
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        for _ in range(steps - 1):
            layers += doubling(config.upsampling, width, width // 2, bias=False)
            layers += [nn.BatchNorm2d(width // 2), nn.ReLU(inplace=True)]
            width //= 2
        layers += [*doubling(config.upsampling, width, channels * config.patch**2), nn.Tanh()]
        if config.patch > 1:
            layers.append(nn.PixelShuffle(config.patch))
        self.layers = nn.Sequential(*layers)
        self.apply(normal_initialisation)
        if config.upsampling == "shuffle":
            for module in self.layers:
                if isinstance(module, nn.Conv2d):
                    icnr_(module.weight)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z[:, :, None, None])  # (N, Z, 1, 1) -> (N, C, R, R)

    def fakes(self, z: Tensor, labels: Tensor | None, style_mixing: float) -> Tensor:
        return self(z)


class Discriminator(nn.Module):
    """images (N, C, R, R) in [-1, 1] -> logits (N,)."""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int | None = None):
        super().__init__()
        steps = doublings(resolution, config.patch)
        width = config.base_channels
        batch_norm = config.discriminator_norm == "batch"
        layers: list[nn.Module] = [nn.PixelUnshuffle(config.patch)] if config.patch > 1 else []
        layers.append(nn.Conv2d(channels * config.patch**2, width, 4, stride=2, padding=1))
        for step in range(steps):
            if step > 0:
                layers.append(nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=not batch_norm))
                width *= 2
                if batch_norm:
                    layers.append(nn.BatchNorm2d(width))
            layers += [nn.LeakyReLU(0.2, inplace=True), *config.dropout_layers()]
        size = patches(resolution, config.patch) >> steps
        of_batch, width = config.minibatch_layers(width, size**2)
        layers += [*of_batch, nn.Conv2d(width, 1, size)]  # (N, 1, 1, 1)
        self.layers = nn.Sequential(*layers)
        self.feature_channels = width
        self.apply(normal_initialisation)
        if config.discriminator_norm == "spectral":
            spectrally_normalise(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layers(images).flatten()

    def maps(self, images: Tensor) -> Tensor:
        """What the logit is read from, (N, feature_channels, 4 or 7, 4 or 7)."""
        return self.layers[:-1](images)

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The same as (N, F)."""
        return self.maps(images).flatten(1)

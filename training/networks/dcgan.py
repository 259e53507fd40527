"""DCGAN: Radford, Metz and Chintala, "Unsupervised representation learning with deep convolutional GANs" (2016).

Transposed convolutions, batch normalisation, ReLU and tanh in the generator; strided convolutions, batch normalisation
and LeakyReLU 0.2 in the discriminator; no fully connected layers; weights from N(0, 0.02). At 64 px with 128 base
channels this is the paper's figure 1. At 28 px the first map is 7 x 7 and there are two doublings.

Instead of batch normalisation the discriminator may have spectral normalisation: Miyato et al., "Spectral normalization
for generative adversarial networks" (2018).
"""

from typing import Literal

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
    # batch: the paper's; none or spectral with a penalty on each picture's gradient, for the first mixes the pictures
    discriminator_norm: Literal["batch", "none", "spectral"] = "batch"
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
            layers += [
                nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width // 2),
                nn.ReLU(inplace=True),
            ]
            width //= 2
        layers += [nn.ConvTranspose2d(width, channels * config.patch**2, 4, stride=2, padding=1), nn.Tanh()]
        if config.patch > 1:
            layers.append(nn.PixelShuffle(config.patch))
        self.layers = nn.Sequential(*layers)
        self.apply(normal_initialisation)

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

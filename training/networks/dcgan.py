"""DCGAN: Radford, Metz and Chintala, "Unsupervised representation learning with deep convolutional GANs" (2016).

Transposed convolutions, batch normalisation, ReLU and tanh in the generator; strided convolutions, batch normalisation
and LeakyReLU 0.2 in the discriminator; no fully connected layers; weights from N(0, 0.02). At 64 px with 128 base
channels this is the paper's figure 1. At 28 px the first map is 7 x 7 and there are two doublings.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from training.errors import RecipeError
from training.networks.layers import Phase, normal_initialisation

DOUBLINGS = {28: 2, 32: 3, 64: 4}  # resolution -> how often the first map (7 or 4 px) is doubled


@dataclass(frozen=True, kw_only=True)
class Config:
    latent_size: int = 100
    base_channels: int = 64  # channels at half the image's resolution; doubled at each halving
    discriminator_norm: Literal["batch", "none"] = "batch"  # the paper's; none where gradients are penalised

    def __post_init__(self) -> None:
        for name in ("latent_size", "base_channels"):
            if getattr(self, name) < 1:
                raise RecipeError(f"`network.{name}` (={getattr(self, name)}) must be at least 1.")


def doublings(resolution: int) -> int:
    """How many stride-2 layers lie between the first map and an image of `resolution` pixels."""
    if resolution not in DOUBLINGS:
        raise RecipeError(f"`data.resolution` (={resolution}) must be one of {sorted(DOUBLINGS)} for this network.")
    return DOUBLINGS[resolution]


class Generator(nn.Module):
    """z (N, Z) -> images (N, C, R, R) in [-1, 1]."""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int | None = None):
        super().__init__()
        steps = doublings(resolution)
        width = config.base_channels << (steps - 1)
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(
                config.latent_size, width, resolution >> steps, bias=False
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
        layers += [nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(normal_initialisation)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z[:, :, None, None])  # (N, Z, 1, 1) -> (N, C, R, R)

    def fakes(self, z: Tensor, labels: Tensor | None, phase: Phase | None, style_mixing: float) -> Tensor:
        return self(z)


class Discriminator(nn.Module):
    """images (N, C, R, R) in [-1, 1] -> logits (N,)."""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int | None = None):
        super().__init__()
        steps = doublings(resolution)
        width = config.base_channels
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for _ in range(steps - 1):
            batch_norm = config.discriminator_norm == "batch"
            layers.append(nn.Conv2d(width, width * 2, 4, stride=2, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width * 2))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            width *= 2
        layers += [nn.Conv2d(width, 1, resolution >> steps)]  # (N, 1, 1, 1)
        self.layers = nn.Sequential(*layers)
        self.apply(normal_initialisation)

    def forward(self, images: Tensor, labels: Tensor | None = None, phase: Phase | None = None) -> Tensor:
        return self.layers(images).flatten()

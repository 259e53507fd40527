"""The vanilla GAN: Goodfellow et al., "Generative adversarial nets" (2014), two multilayer perceptrons.

An image is as many numbers as it has values, of any resolution: a digit of (1, 28, 28), or a point of the plane as a
image of 2 channels and 1 pixel. As in the paper the generator's hidden layers are rectified and the discriminator may
have dropout. Unlike there the images are in [-1, 1], by tanh, and LeakyReLU stands for maxout.

The weights begin as torch begins them. With those of He et al. (2015) a generator had found no mode of the ring of 8
Gaussians after 1500 steps (3 seeds), with torch's 3 to 7 (5 seeds).
"""

from typing import Literal

from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.networks.config import DiscriminatorConfig
from training.networks.layers import spectrally_normalise
from training.validation import CHECKED, Count


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Config(DiscriminatorConfig):
    latent_size: Count = 100
    hidden_size: Count = 1200  # of every hidden layer of both networks, as in the code of Goodfellow et al. 2014
    hidden_layers: Count = 2  # as there
    discriminator_norm: Literal["none", "spectral"] = "none"


class Generator(nn.Module):
    """z (N, Z) -> images (N, C, R, R) in [-1, 1]."""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int | None = None):
        super().__init__()
        layers: list[nn.Module] = []
        width = config.latent_size
        for _ in range(config.hidden_layers):
            layers += [nn.Linear(width, config.hidden_size), nn.ReLU(inplace=True)]
            width = config.hidden_size
        shape = (channels, resolution, resolution)
        layers += [nn.Linear(width, channels * resolution**2), nn.Tanh(), nn.Unflatten(1, shape)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)

    def fakes(self, z: Tensor, labels: Tensor | None, style_mixing: float) -> Tensor:
        return self(z)


class Discriminator(nn.Module):
    """images (N, C, R, R) in [-1, 1] -> logits (N,)."""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int | None = None):
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        width = channels * resolution**2
        for _ in range(config.hidden_layers):
            layers += [nn.Linear(width, config.hidden_size), nn.LeakyReLU(0.2, inplace=True), *config.dropout_layers()]
            width = config.hidden_size
        of_batch, width = config.minibatch_layers(width)
        layers += [*of_batch, nn.Linear(width, 1)]
        self.layers = nn.Sequential(*layers)
        if config.discriminator_norm == "spectral":
            spectrally_normalise(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layers(images).flatten()

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the logit is read from, (N, F)."""
        return self.layers[:-1](images)

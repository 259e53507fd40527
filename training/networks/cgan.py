"""Conditional GAN: Mirza and Osindero, "Conditional generative adversarial nets" (2014), on DCGAN's layers.

The label is concatenated to what each network sees: to the latent as an embedding in the generator, to the image as one
more plane, learned for each class, in the discriminator.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from training.networks import dcgan
from training.networks.layers import Phase, normal_initialisation


@dataclass(frozen=True, kw_only=True)
class Config(dcgan.Config):
    embedding_size: int = 32  # of the label in the generator


class Generator(nn.Module):
    """z (N, Z), labels (N,) int64 -> images (N, C, R, R) in [-1, 1]."""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int):
        super().__init__()
        self.embedding = nn.Embedding(classes, config.embedding_size)
        widened = replace(config, latent_size=config.latent_size + config.embedding_size)
        self.body = dcgan.Generator(widened, resolution, channels)
        nn.init.normal_(self.embedding.weight)  # of the latent's own scale, so that neither drowns the other

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return self.body(torch.cat([z, self.embedding(labels)], dim=1))  # (N, Z + E) -> (N, C, R, R)

    def fakes(self, z: Tensor, labels: Tensor | None, phase: Phase | None, style_mixing: float) -> Tensor:
        return self(z, labels)


class Discriminator(nn.Module):
    """images (N, C, R, R) in [-1, 1], labels (N,) int64 -> logits (N,): is it real, and of that class?"""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int):
        super().__init__()
        self.plane = nn.Embedding(classes, resolution**2)
        self.body = dcgan.Discriminator(config, resolution, channels + 1)
        self.plane.apply(normal_initialisation)

    def forward(self, images: Tensor, labels: Tensor, phase: Phase | None = None) -> Tensor:
        n, _, h, w = images.shape
        plane = self.plane(labels).reshape(n, 1, h, w).to(images.dtype)
        return self.body(torch.cat([images, plane], dim=1))  # (N, C + 1, R, R) -> (N,)

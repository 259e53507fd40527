"""Conditional GANs on DCGAN's layers, with two ways to tell each network the class.

Concatenation: Mirza and Osindero, "Conditional generative adversarial nets" (2014). The label is concatenated to what
the network sees: to the latent as an embedding, to the image as one more plane, learned for each class.

Conditional batch norm and projection: Miyato and Koyama, "cGANs with projection discriminator" (2018). The generator's
batch normalisation has a scale and a bias for each class, so that all that enters its first layer is the latent; the
discriminator adds the inner product of the image's features with the class's embedding to its logit.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from training.networks import dcgan
from training.networks.layers import normal_initialisation, spectrally_normalise
from training.validation import CHECKED, Count


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Config(dcgan.Config):
    generator_conditioning: Literal["concatenation", "batch_norm"] = "concatenation"
    discriminator_conditioning: Literal["concatenation", "projection"] = "concatenation"
    embedding_size: Count = 32  # of the label in the generator, where it is concatenated


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalisation with a scale and a bias a class (Dumoulin et al. 2017, eq. 5).

    x (N, C, H, W), labels (N,) -> (N, C, H, W).
    """

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = nn.Embedding(classes, channels)
        self.bias = nn.Embedding(classes, channels)
        # From scales of 1 and biases of 0 a digit classifier still read the classes at chance at 60 kimg.
        nn.init.normal_(self.scale.weight, 1.0, 0.5)
        nn.init.normal_(self.bias.weight, 0.0, 0.5)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        scale, bias = self.scale(labels), self.bias(labels)  # (N, C)
        return self.norm(x) * scale[:, :, None, None] + bias[:, :, None, None]


class Generator(nn.Module):
    """z (N, Z), labels (N,) int64 -> images (N, C, R, R) in [-1, 1]."""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int):
        super().__init__()
        self.concatenates = config.generator_conditioning == "concatenation"
        if self.concatenates:
            self.embedding = nn.Embedding(classes, config.embedding_size)
            nn.init.normal_(self.embedding.weight)  # of the latent's own scale, so that neither drowns the other
            config = replace(config, latent_size=config.latent_size + config.embedding_size)
        self.body = dcgan.Generator(config, resolution, channels)
        if not self.concatenates:
            for i, layer in enumerate(self.body.layers):
                if isinstance(layer, nn.BatchNorm2d):
                    self.body.layers[i] = ConditionalBatchNorm2d(layer.num_features, classes)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        if self.concatenates:
            return self.body(torch.cat([z, self.embedding(labels)], dim=1))  # (N, Z + E) -> (N, C, R, R)
        x = z[:, :, None, None]
        for layer in self.body.layers:
            x = layer(x, labels) if isinstance(layer, ConditionalBatchNorm2d) else layer(x)
        return x

    def fakes(self, z: Tensor, labels: Tensor | None, style_mixing: float) -> Tensor:
        return self(z, labels)


class Discriminator(nn.Module):
    """images (N, C, R, R) in [-1, 1], labels (N,) int64 -> logits (N,): is it real, and of that class?"""

    def __init__(self, config: Config, resolution: int, channels: int, classes: int):
        super().__init__()
        self.concatenates = config.discriminator_conditioning == "concatenation"
        self.body = dcgan.Discriminator(config, resolution, channels + self.concatenates)
        self.label = nn.Embedding(classes, resolution**2 if self.concatenates else self.body.feature_channels)
        if not self.concatenates:  # else N(0, 1), as bright as the image beside it
            self.label.apply(normal_initialisation)
            if config.discriminator_norm == "spectral":
                spectrally_normalise(self.label)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        maps = self.maps(images, labels)
        logits = self.body.layers[-1](maps).flatten()
        if self.concatenates:
            return logits
        return logits + (self.label(labels) * maps.sum(dim=(2, 3))).sum(dim=1)

    def maps(self, images: Tensor, labels: Tensor) -> Tensor:
        """What the logit is read from, (N, feature_channels, 4 or 7, 4 or 7)."""
        if self.concatenates:
            n, _, h, w = images.shape
            plane = self.label(labels).reshape(n, 1, h, w).to(images.dtype)
            images = torch.cat([images, plane], dim=1)  # (N, C + 1, R, R)
        return self.body.maps(images)

    def features(self, images: Tensor, labels: Tensor) -> Tensor:
        """The same as (N, F)."""
        return self.maps(images, labels).flatten(1)

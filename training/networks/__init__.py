"""The network families. Each file is one family: a `Config`, a `Generator` and a `Discriminator`.

A StyleGAN's recipe may have the DCGAN's discriminator in the place of its own: `build_discriminator` makes the one
that is asked for.

Every generator has `fakes(z, labels, style_mixing)`, the images a training step needs. Every discriminator takes
`(images, labels)` to logits, and has `features` of the same, what its last layer sees. Networks that can grow have
`grow_to(phase)`. A family ignores what does not concern it.
"""

from typing import Any

from torch import nn

from training.networks import cgan, dcgan, mlp, stylegan, stylegan2

NETWORKS = {"mlp": mlp, "dcgan": dcgan, "cgan": cgan, "stylegan": stylegan, "stylegan2": stylegan2}
NetworkConfig = mlp.Config | dcgan.Config | cgan.Config | stylegan.Config | stylegan2.Config


def build_discriminator(
    family: str, config: NetworkConfig, resolution: int, channels: int, classes: int | None = None
) -> nn.Module:
    """images (N, `channels`, R, R) in [-1, 1] -> logits (N,), untrained."""
    shape: Any = (resolution, channels, classes)
    if isinstance(config, stylegan.Config) and config.discriminator == "dcgan":
        return dcgan.Discriminator(config.dcgan_discriminator(), *shape)
    network: Any = NETWORKS[family]
    return network.Discriminator(config, *shape)

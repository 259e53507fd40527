"""Adversarial losses: pure functions on logits of real and generated pictures, each (N,) -> scalar.

A pair of functions a loss, `LOSSES[name] = (of the discriminator, of the generator)`, both of (real, fake).
"""

import torch.nn.functional as F
from torch import Tensor


def non_saturating_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))] (Goodfellow et al. 2014, eq. 1), on logits."""
    return F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean()


def non_saturating_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(G(z))] (Goodfellow et al. 2014, section 3), on logits."""
    return F.softplus(-fake.float()).mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic pairing: E[log(1 + exp(D(G(z)) - D(x)))] (Huang et al. 2024, eq. 2; Jolicoeur-Martineau 2019)."""
    return F.softplus(fake.float() - real.float()).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The same with real and generated exchanged: no local minimum keeps the generator on a few modes."""
    return F.softplus(real.float() - fake.float()).mean()


LOSSES = {
    "non_saturating": (non_saturating_discriminator, non_saturating_generator),
    "relativistic": (relativistic_discriminator, relativistic_generator),
}

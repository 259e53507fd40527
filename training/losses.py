"""Adversarial losses: pure functions on logits of real and generated images.

Logits are (N,), or (K, N) of K discriminators; every loss is a mean over all of them, computed in float32 and without
a logarithm of a probability, which would be infinite where a network is sure. A recipe chooses one of `LOSSES`.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Loss(NamedTuple):
    """What each network minimises, and what that takes."""

    discriminator: Callable[..., Tensor]  # (real, fake) -> scalar; (real, fake, target) where it has targets
    generator: Callable[[Tensor, Tensor], Tensor]  # (real, fake) -> scalar
    has_targets: bool = False  # the discriminator's is defined by what it should say of a real image
    compares: bool = False  # the generator's looks at the real logits


def minimax_discriminator(real: Tensor, fake: Tensor, target: float | Tensor = 1.0) -> Tensor:
    """-E[t log D(x) + (1 - t) log(1 - D(x))] - E[log(1 - D(G(z)))] (Goodfellow et al. 2014, eq. 1, where t = 1).

    `target` t, a number or one an image (N,), smooths the label of real images alone (Salimans et al. 2016, section
    3.4). A t above 1 takes from the loss without bound; it has a minimum where the targets' mean is below 1.
    """
    real, fake = real.float(), fake.float()
    # t softplus(-x) + (1 - t) softplus(x), whose two terms differ by x
    return (F.softplus(-real) + (1 - target) * real).mean() + F.softplus(fake).mean()


def minimax_generator(real: Tensor, fake: Tensor) -> Tensor:
    """E[log(1 - D(G(z)))] (Goodfellow et al. 2014, eq. 1): flat where the discriminator is sure, so it saturates."""
    return -F.softplus(fake.float()).mean()


def non_saturating_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(G(z))] (Goodfellow et al. 2014, section 3): steepest where the discriminator is sure."""
    return F.softplus(-fake.float()).mean()


def wasserstein_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E[D(G(z))] - E[D(x)] (Arjovsky et al. 2017, eq. 3). D must be held to a Lipschitz constant by other means."""
    return fake.float().mean() - real.float().mean()


def wasserstein_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-E[D(G(z))] (Arjovsky et al. 2017, algorithm 1)."""
    return -fake.float().mean()


def least_squares_discriminator(real: Tensor, fake: Tensor, target: float | Tensor = 1.0) -> Tensor:
    """E[(D(x) - t)^2] / 2 + E[D(G(z))^2] / 2 (Mao et al. 2017, eq. 9, where t = 1; a = 0 and b = t in their eq. 2).

    `target` t is a number or one an image (N,), as in `minimax_discriminator`.
    """
    return ((real.float() - target).square().mean() + fake.float().square().mean()) / 2


def least_squares_generator(real: Tensor, fake: Tensor) -> Tensor:
    """E[(D(G(z)) - 1)^2] / 2 (Mao et al. 2017, eq. 9; c = 1 in their eq. 2)."""
    return (fake.float() - 1).square().mean() / 2


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))] (Lim and Ye 2017; Miyato et al. 2018, eq. 16)."""
    return F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()


def hinge_generator(real: Tensor, fake: Tensor) -> Tensor:
    """-E[D(G(z))] (Lim and Ye 2017; Miyato et al. 2018, eq. 17)."""
    return -fake.float().mean()


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Relativistic pairing: E[log(1 + exp(D(G(z)) - D(x)))] (Huang et al. 2024, eq. 2; Jolicoeur-Martineau 2019)."""
    return F.softplus(fake.float() - real.float()).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The same with real and generated exchanged: no local minimum keeps the generator on a few modes."""
    return F.softplus(real.float() - fake.float()).mean()


LOSSES = {
    "minimax": Loss(minimax_discriminator, minimax_generator, has_targets=True),
    "non_saturating": Loss(minimax_discriminator, non_saturating_generator, has_targets=True),
    "wasserstein": Loss(wasserstein_discriminator, wasserstein_generator),
    "least_squares": Loss(least_squares_discriminator, least_squares_generator, has_targets=True),
    "hinge": Loss(hinge_discriminator, hinge_generator),
    "relativistic": Loss(relativistic_discriminator, relativistic_generator, compares=True),
}

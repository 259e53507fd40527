"""Penalties and stabilisers: pure functions."""

import torch
from torch import Tensor


def gradient_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """Gradient penalty E[|grad D(x)|^2] / 2, to be weighted by gamma (Mescheder et al. 2018, eq. 9).

    R1 on real images, R2 on generated ones. images (N, C, H, W) that require a gradient, logits (N,) = D(images)
    -> scalar.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean() / 2


def style_mixing_crossover(n: int, layers: int, probability: float, device: torch.device) -> Tensor:
    """First layer that takes the second style (Karras et al. 2019, section 3.1); `layers` where styles are not mixed.

    -> (n,) int64, uniform on 1 .. layers-1 with the given probability, one draw an image.
    """
    crossover = torch.randint(1, layers, (n,), device=device)
    mixed = torch.rand(n, device=device) < probability
    return torch.where(mixed, crossover, layers)

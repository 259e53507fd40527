"""Penalties and stabilisers: pure functions, but for `clip_weights`.

Each penalty is to be multiplied by its weight and added to a loss. A lazy one, evaluated at every k-th step alone, is
multiplied by k as well, so that it weighs the same over a run (Karras et al. 2020, appendix B).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def gradient_penalty(images: Tensor, logits: Tensor) -> Tensor:
    """Gradient penalty E[|grad D(x)|^2] / 2, to be weighted by gamma (Mescheder et al. 2018, eq. 9).

    R1 on real images, R2 on generated ones. images (N, C, H, W) that require a gradient, logits (N,) = D(images)
    -> scalar. With the logits (K, N) of K discriminators, the mean of their penalties.
    """
    return _input_gradients(images, logits).square().sum(dim=(2, 3, 4)).mean() / 2


def wgan_gradient_penalty(discriminate: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """E[(|grad D(x)| - 1)^2] on the lines between real and generated images (Gulrajani et al. 2017, eq. 3).

    real and fake (N, C, H, W); discriminate: images -> logits (N,) or (K, N) -> scalar. Where on its line a pair is
    looked at is uniform, one draw a pair. D must not normalise over the batch: its gradient is an image's own.
    """
    real, fake = real.detach(), fake.detach()
    share = torch.rand(len(real), 1, 1, 1, device=real.device)
    images = (share * real + (1 - share) * fake).requires_grad_()
    norms = torch.linalg.vector_norm(_input_gradients(images, discriminate(images)), dim=(2, 3, 4))  # (K, N)
    return (norms - 1).square().mean()


def _input_gradients(images: Tensor, logits: Tensor) -> Tensor:
    """The gradient of each discriminator at each image, to be differentiated again.

    images (N, C, H, W), logits (K, N), or (N,) where K is 1 -> (K, N, C, H, W).
    """
    sums = logits.reshape(-1, len(images)).sum(dim=1)  # (K,)
    return torch.stack([torch.autograd.grad(s, images, create_graph=True)[0].float() for s in sums])


@torch.no_grad()
def clip_weights(module: nn.Module, limit: float) -> None:
    """Every parameter into [-limit, limit], in place (Arjovsky et al. 2017, algorithm 1)."""
    for parameter in module.parameters():
        parameter.clamp_(-limit, limit)


def path_length(images: Tensor, ws: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Path length penalty E[(|J^T y| - a)^2], y ~ N(0, I) (Karras et al. 2020, eq. 4), and the new a, without gradient.

    images (N, C, H, W), made from ws (N, L, W) -> two scalars. a is a running mean of |J^T y| that moves by 0.01 of the
    way; `mean` is the one so far, 0 at first. As in the paper's code, |J^T y|^2 is a mean over the L styles and is
    divided by H W: a weight of 2 is then the paper's gamma, ln 2 / (R^2 (ln R - ln 2)) (appendix B).
    """
    noise = torch.randn(images.shape, device=images.device) / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images.float() * noise).sum(), ws, create_graph=True)  # (N, L, W)
    lengths = torch.linalg.vector_norm(gradient.float(), dim=(1, 2)) / math.sqrt(ws.shape[1])  # (N,)
    mean = mean.lerp(lengths.detach().mean(), 0.01)
    return (lengths - mean).square().mean(), mean


def feature_matching(real_features: Tensor, fake_features: Tensor) -> Tensor:
    """|E[f(x)] - E[f(G(z))]|^2 (Salimans et al. 2016, section 3.1). Features of a layer of D, (N, F) -> scalar."""
    return (real_features.float().mean(dim=0) - fake_features.float().mean(dim=0)).square().sum()


def mode_seeking(images_a: Tensor, images_b: Tensor, z_a: Tensor, z_b: Tensor) -> Tensor:
    """1 / E[d(images) / d(z)], to be minimised: how little images differ for the difference of their latents.

    The inverse of the ratio that Mao et al. 2019 maximise (eq. 4), as in their code; d is the mean absolute difference
    of a pair. images (N, C, H, W) of latents z (N, Z) -> scalar; 1e5 where all images are the same.
    """
    images = (images_a.float() - images_b.float()).abs().flatten(1).mean(dim=1)  # (N,)
    latents = (z_a - z_b).abs().flatten(1).mean(dim=1)
    return 1 / ((images / latents).mean() + 1e-5)


def real_targets(n: int, low: float, high: float, device: torch.device) -> float | Tensor:
    """What D should say of n real images: (n,), uniform on [low, high]; the number itself where they are one."""
    return low if low == high else torch.empty(n, device=device).uniform_(low, high)


def other_labels(labels: Tensor, classes: int) -> Tensor:
    """For each label another of 0 .. classes-1, uniform. (N,) int64 -> (N,) int64."""
    return (labels + torch.randint_like(labels, 1, classes)) % classes


def style_mixing_crossover(n: int, layers: int, probability: float, device: torch.device) -> Tensor:
    """First layer that takes the second style (Karras et al. 2019, section 3.1); `layers` where styles are not mixed.

    -> (n,) int64, uniform on 1 .. layers-1 with the given probability, one draw an image.
    """
    crossover = torch.randint(1, layers, (n,), device=device)
    mixed = torch.rand(n, device=device) < probability
    return torch.where(mixed, crossover, layers)

"""Unrolled GANs: Metz et al., "Unrolled generative adversarial networks" (2017).

The generator's loss is that of the discriminator as it will be after k more of its updates, and its gradient runs
through those updates: the generator sees how the discriminator would answer (section 2.2, with Adam for the update).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

Discriminate = Callable[..., Tensor]  # the arguments of the discriminator -> logits


class Moments(NamedTuple):
    """Adam's state of one parameter."""

    step: Tensor  # scalar
    first: Tensor
    second: Tensor


def unrolled(
    discriminator: nn.Module,
    optimizer: torch.optim.Adam,
    loss_of: Callable[[Discriminate], Tensor],
    steps: int,
) -> dict[str, Tensor]:
    """The discriminator's parameters after `steps` more updates, as functions of all that `loss_of` looks at.

    `loss_of(discriminate)` is the discriminator's loss, a scalar, on logits that `discriminate` gives; images of the
    generator are not to be detached there. The updates go on from the state of `optimizer` with its rates, plain Adam
    (no weight decay, no AMSGrad) as everywhere here. Neither it nor the discriminator changes.

    -> tensors by name, for `torch.func.functional_call(discriminator, tensors, arguments)`. Buffers (running means,
    vectors of power iterations) are among them, as copies, so that such calls leave those of the discriminator alone.
    """
    trained = dict(discriminator.named_parameters())
    tensors = {name: p.detach().requires_grad_() for name, p in trained.items()}
    tensors |= {name: buffer.clone() for name, buffer in discriminator.named_buffers()}
    settings = {p: group for group in optimizer.param_groups for p in group["params"]}
    moments = {name: _moments(optimizer, p) for name, p in trained.items()}

    def discriminate(*arguments: object) -> Tensor:
        return functional_call(discriminator, tensors, arguments)

    for _ in range(steps):
        loss = loss_of(discriminate)
        gradients = torch.autograd.grad(loss, [tensors[n] for n in trained], create_graph=True, allow_unused=True)
        for (name, parameter), gradient in zip(trained.items(), gradients, strict=True):
            if gradient is not None:  # a stage that has not grown yet has none, and Adam leaves it alone
                group = settings[parameter]
                tensors[name], moments[name] = adam_step(
                    tensors[name], gradient, moments[name], group["lr"], group["betas"], group["eps"]
                )
    return tensors


def _moments(optimizer: torch.optim.Adam, parameter: nn.Parameter) -> Moments:
    state = optimizer.state.get(parameter)  # not [parameter], which would create it
    if not state:
        zeros = torch.zeros_like(parameter)
        return Moments(torch.zeros((), dtype=torch.float64), zeros, zeros)
    return Moments(state["step"].double(), state["exp_avg"], state["exp_avg_sq"])


def adam_step(
    parameter: Tensor, gradient: Tensor, moments: Moments, lr: float, betas: tuple[float, float], eps: float
) -> tuple[Tensor, Moments]:
    """One differentiable update of Adam (Kingma and Ba 2015, algorithm 1)."""
    step = moments.step + 1
    first = moments.first.lerp(gradient, 1 - betas[0])
    second = moments.second * betas[1] + gradient.square() * (1 - betas[1])
    # Where no gradient ever came, the root's derivative is infinite and the chain rule would multiply it by 0.
    root = torch.where(second > 0, second, 1.0).sqrt() * (second > 0)
    scaled = root / (1 - betas[1] ** step).sqrt() + eps
    return parameter - lr / (1 - betas[0] ** step) * first / scaled, Moments(step, first, second)

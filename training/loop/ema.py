"""Exponential moving average of a network's weights, buffers included (Yazici et al. 2019)."""

import torch
from torch import Tensor, nn


def decay_of(batch: int, half_life_kimg: float, images_seen: int, ramp_up: float = 0.05) -> float:
    """Decay a step: half of the average is younger than `half_life_kimg`, or than `ramp_up` of the run so far."""
    half_life = min(half_life_kimg * 1000, max(images_seen, batch) * ramp_up)
    return 0.5 ** (batch / max(half_life, 1e-8))


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, decay: float | Tensor) -> None:
    """average <- decay * average + (1 - decay) * network; whole-number buffers are copied."""
    for target, source in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if target.is_floating_point():
            target.lerp_(source, 1 - decay)
        else:
            target.copy_(source)

"""Whether a run still computes with numbers, and where it first did not."""

import math

from torch import nn

from training.errors import TrainingDiverged
from training.loop.trainer import Trainer


def check_finite(trainer: Trainer, statistics: dict[str, float]) -> None:
    """Raises TrainingDiverged if a statistic or a weight is not finite, naming the first."""
    for name, value in statistics.items():
        if not math.isfinite(value):
            where = first_not_finite({"generator": trainer.generator, "discriminator": trainer.discriminator})
            raise TrainingDiverged(
                f"{name.replace('_', ' ')} is {value} at {trainer.kimg:.1f} kimg; "
                + (f"first seen in {where}." if where else "all weights and gradients are still finite.")
            )
    if where := first_not_finite({"average": trainer.average, "discriminator": trainer.discriminator}):
        raise TrainingDiverged(f"not finite at {trainer.kimg:.1f} kimg: {where}.")


def first_not_finite(networks: dict[str, nn.Module]) -> str | None:
    """The first gradient, weight or buffer that is not finite, such as "the gradient of generator.layers.0.weight"."""
    for network, module in networks.items():
        for name, parameter in module.named_parameters():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                return f"the gradient of {network}.{name}"
        for name, tensor in module.state_dict().items():
            if not tensor.isfinite().all():
                return f"{network}.{name}"
    return None

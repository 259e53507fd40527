"""What the families' configurations share: the checks of their fields, and what a discriminator may have besides."""

from dataclasses import dataclass

from torch import nn

from training.errors import RecipeError
from training.networks.layers import MinibatchDiscrimination, MinibatchStddev


def check_at_least(minimum: int, config: object, *fields: str) -> None:
    """Raises RecipeError, naming the first of the fields that is below `minimum`."""
    for field in fields:
        if (value := getattr(config, field)) < minimum:
            raise RecipeError(f"`network.{field}` (={value}) must be at least {minimum}.")


def patches(resolution: int, patch: int) -> int:
    """Return the pixels of a side in patches. Raises RecipeError where the patches do not tile the image."""
    if resolution % patch:
        raise RecipeError(f"`network.patch` (={patch}) must divide `data.resolution` (={resolution}).")
    return resolution // patch


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Against overfitting and collapse, for discriminators of plain layers; the defaults are none of it."""

    dropout: float = 0.0  # of each hidden layer of D; 0.5 in the code of Goodfellow et al. 2014
    minibatch_discrimination: int = 0  # kernels (Salimans et al. 2016, section 3.2); 0: none
    minibatch_stddev: bool = False  # Karras et al. 2018, section 3

    def __post_init__(self) -> None:
        check_at_least(0, self, "minibatch_discrimination")
        if not 0 <= self.dropout < 1:
            raise RecipeError(f"`network.dropout` (={self.dropout}) must be at least 0 and less than 1.")

    def dropout_layers(self) -> list[nn.Module]:
        """What follows a hidden layer's activation."""
        return [nn.Dropout(self.dropout)] if self.dropout else []

    def minibatch_layers(self, channels: int, pixels: int = 1) -> tuple[list[nn.Module], int]:
        """What stands before the logit, on (N, channels, ...) of `pixels` -> layers, and channels after them."""
        layers: list[nn.Module] = []
        if self.minibatch_stddev:
            layers.append(MinibatchStddev())
            channels += 1
        if kernels := self.minibatch_discrimination:
            layers.append(MinibatchDiscrimination(channels * pixels, kernels))
            channels += kernels
        return layers, channels

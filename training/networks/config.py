"""The fields that configurations of several families share."""

from pydantic.dataclasses import dataclass
from torch import nn

from training.errors import RecipeError
from training.networks.layers import MinibatchDiscrimination, MinibatchStddev
from training.validation import CHECKED, CountOrNone, Flag, Fraction


def patches(resolution: int, patch: int) -> int:
    """Return the pixels of a side in patches. Raises RecipeError where the patches do not tile the image."""
    if resolution % patch:
        raise RecipeError(f"`network.patch` (={patch}) must divide `data.resolution` (={resolution}).")
    return resolution // patch


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DiscriminatorConfig:
    """Against overfitting and collapse, for discriminators of plain layers; the defaults are none of it."""

    dropout: Fraction = 0.0  # of each hidden layer of D; 0.5 in the code of Goodfellow et al. 2014
    minibatch_discrimination: CountOrNone = 0  # kernels (Salimans et al. 2016, section 3.2); 0: none
    minibatch_stddev: Flag = False  # Karras et al. 2018, section 3

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

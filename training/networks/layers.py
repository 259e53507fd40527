"""Layers that more than one family uses."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LRELU_GAIN = math.sqrt(2)  # keeps the variance of a unit normal through LeakyReLU 0.2 (He et al. 2015)


class Phase(NamedTuple):
    """Where a growing network stands: the resolution 4 * 2^stage, blended by alpha with the one before."""

    stage: int
    alpha: float  # 0: the stage before alone; 1: this stage alone

    @property
    def resolution(self) -> int:
        return 4 << self.stage


def normal_initialisation(module: nn.Module) -> None:
    """Weights N(0, 0.02), batch-norm scales N(1, 0.02), biases 0 (Radford et al. 2016, section 3)."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
    bias = getattr(module, "bias", None)
    if isinstance(bias, Tensor):
        nn.init.zeros_(bias)


class EqualLinear(nn.Module):
    """Fully connected layer with an equalised learning rate (Karras et al. 2018, section 4.1). (N, in) -> (N, out)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: float = 0.0,  # initial value
        lr_multiplier: float = 1.0,  # 0.01 in the mapping network (Karras et al. 2019, section B)
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias / lr_multiplier))
        self.scale = lr_multiplier / math.sqrt(in_features)
        self.lr_multiplier = lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.lr_multiplier)


class EqualConv2d(nn.Module):
    """Convolution with an equalised learning rate; keeps the resolution. (N, in, H, W) -> (N, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = 1 / math.sqrt(in_channels * kernel**2)
        self.padding = kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


class MinibatchStddev(nn.Module):
    """Appends one channel: the standard deviation over groups of the minibatch (Karras et al. 2018, section 3).

    (N, C, H, W) -> (N, C + 1, H, W). Groups are of `group` images, or of all N where N is no multiple of it.
    """

    def __init__(self, group: int = 4):
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        group = self.group if n % self.group == 0 else n
        y = x.float().reshape(group, n // group, c, h, w)  # (G, M, C, H, W)
        deviation = (y.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # (M,)
        plane = deviation.repeat(group).reshape(n, 1, 1, 1).expand(n, 1, h, w)
        return torch.cat([x, plane.to(x.dtype)], dim=1)


def leaky_relu(x: Tensor) -> Tensor:
    """LeakyReLU of slope 0.2, scaled to keep the variance."""
    return F.leaky_relu(x, 0.2) * LRELU_GAIN

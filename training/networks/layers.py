"""Layers that more than one family uses."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

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


def spectrally_normalise(network: nn.Module) -> None:
    """Divides the weights of every layer by their largest singular value (Miyato et al. 2018, algorithm 1).

    A convolution's kernel (out, in, h, w) is taken as a matrix (out, in * h * w). In training mode each forward pass
    makes one step of the power iteration. To be called once, after the weights are initialised.
    """
    for module in list(network.modules()):
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
            spectral_norm(module)


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

    (N, C, ...) -> (N, C + 1, ...). Groups are of `group` images, or of all N where N is no multiple of it.
    """

    def __init__(self, group: int = 4):
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        group = self.group if n % self.group == 0 else n
        y = x.float().reshape(group, n // group, *x.shape[1:])  # (G, M, C, ...)
        deviation = (y.var(dim=0, unbiased=False) + 1e-8).sqrt().flatten(1).mean(dim=1)  # (M,)
        return append_channels(x, deviation.repeat(group)[:, None])


class MinibatchDiscrimination(nn.Module):
    """Appends a channel a kernel: how near each image is to the others of its batch (Salimans et al. 2016, 3.2).

    (N, C, ...) of `features` values an image -> (N, C + kernels, ...). The mean over the batch stands where the paper
    has the sum, so that the values, 1/N to 1, do not grow with it.
    """

    def __init__(self, features: int, kernels: int, kernel_size: int = 5):  # the size of the authors' code
        super().__init__()
        self.shape = (kernel_size, kernels)
        self.tensor = nn.Linear(features, kernel_size * kernels, bias=False)  # T of the paper

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # of a difference of two like rows bfloat16 leaves little
            rows = self.tensor(x.float().flatten(1)).t().contiguous()  # images last: 3 times as fast at batch 128
            rows = rows.reshape(*self.shape, -1)  # (size, B, N)
            distances = (rows[..., None] - rows[..., None, :]).abs().sum(dim=0)  # (B, N, N)
            nearness = torch.exp(-distances).mean(dim=2).t()  # (N, B)
        return append_channels(x, nearness)


def append_channels(x: Tensor, values: Tensor) -> Tensor:
    """Values (N, B) of each image, the same at all of its pixels: x (N, C, ...) -> (N, C + B, ...)."""
    planes = values.reshape(*values.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat([x, planes.to(x.dtype)], dim=1)


class Ensemble(nn.Module):
    """Several discriminators that a generator faces at once (Durugkar et al. 2017).

    Each sees every image: images (N, C, R, R) -> logits (K, N).
    """

    def __init__(self, discriminators: list[nn.Module]):
        super().__init__()
        self.discriminators = nn.ModuleList(discriminators)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.stack([discriminator(images, labels) for discriminator in self.discriminators])

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the logits are read from, side by side: (N, K * F)."""
        return torch.cat([one.features(images, labels) for one in self.discriminators], dim=1)  # pyright: ignore[reportCallIssue]

    def grow_to(self, phase: Phase) -> None:
        """Uses each discriminator as far as `phase`; for those that grow."""
        for one in self.discriminators:
            one.grow_to(phase)  # pyright: ignore[reportCallIssue]


def leaky_relu(x: Tensor) -> Tensor:
    """LeakyReLU of slope 0.2, scaled to keep the variance."""
    return F.leaky_relu(x, 0.2) * LRELU_GAIN

"""What the discriminator sees in place of an image: augmented, or with noise; real and generated ones alike.

All of it is differentiable, twice too, so that a generator learns and a penalty is taken through it. Images are
(N, C, H, W) of any float type, and every image has its own draws from torch's default generator.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def diff_augment(images: Tensor, policy: Sequence[str]) -> Tensor:
    """DiffAugment (Zhao et al. 2020): `color`, `translation` and `cutout`, in the order of `policy`.

    images in [-1, 1] -> images of the same shape; with `color` they may leave the range.
    """
    for name in policy:
        images = POLICIES[name](images)
    return images


def color(images: Tensor) -> Tensor:
    """Brightness + [-0.5, 0.5), saturation * [0, 2) and contrast * [0.5, 1.5), in this order.

    Saturation is the distance from a pixel's mean over the channels, so that of a grey image does not change;
    contrast is that from the image's mean.
    """
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1, device=images.device).to(images.dtype)
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (saturation * 2)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def translation(images: Tensor) -> Tensor:
    """Moved by whole pixels, up to 1/8 of the height and of the width either way; what comes into view is 0."""
    n, channels, height, width = images.shape
    rows = _source(n, height, images.device)[:, :, None]  # (N, H, 1)
    columns = _source(n, width, images.device)[:, None, :]  # (N, 1, W)
    place = (rows * (width + 2) + columns).reshape(n, 1, -1).expand(-1, channels, -1)
    padded = F.pad(images, (1, 1, 1, 1)).flatten(2)  # (N, C, (H + 2) (W + 2))
    # A gather by flat index: with two indices its backward pass took 2 to 3 times as long (measured on a CPU).
    return padded.gather(2, place).reshape(images.shape)


def _source(n: int, size: int, device: torch.device) -> Tensor:
    """Where each row of a moved image lay in the image padded by 1. -> (n, size) in 0 .. size + 1."""
    limit = (size + 4) // 8
    shift = torch.randint(-limit, limit + 1, (n, 1), device=device)
    return (torch.arange(1, size + 1, device=device) + shift).clamp(0, size + 1)


def cutout(images: Tensor) -> Tensor:
    """A rectangle of half the height and half the width set to 0, anywhere, so that it may hang over the edge."""
    n, _, height, width = images.shape
    rows, columns = _hole(n, height, images.device), _hole(n, width, images.device)
    return images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0.0)  # (N, 1, H, W)


def _hole(n: int, size: int, device: torch.device) -> Tensor:
    """Half of `size`, at most half of it over an edge. -> (n, size) bool."""
    length = (size + 1) // 2
    start = torch.randint(size + 1 - length % 2, (n, 1), device=device) - length // 2
    place = torch.arange(size, device=device)
    return (start <= place) & (place < start + length)


POLICIES = {"color": color, "translation": translation, "cutout": cutout}


def input_noise(images: Tensor, std: float) -> Tensor:
    """Normal noise on every value ("instance noise", Sonderby et al. 2017); none at `std` 0."""
    return images + std * torch.randn_like(images) if std else images

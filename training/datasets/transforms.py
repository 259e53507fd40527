"""Conversions of image tensors: pure functions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(images: Tensor, resolution: int) -> Tensor:
    """(N, C, H, H) uint8 -> (N, C, R, R) uint8; the same size is left alone.

    Box filter, the mean of each block, where R divides H; else bicubic, and antialiased where R is smaller.
    """
    size = images.shape[-1]
    if size == resolution:
        return images

    def resized(part: Tensor) -> Tensor:
        if size % resolution == 0:
            return F.avg_pool2d(part, size // resolution)
        return F.interpolate(part, (resolution, resolution), mode="bicubic", antialias=True)

    return torch.cat([resized(part.float()).round().clamp(0, 255).to(torch.uint8) for part in images.split(1024)])


def to_unit(images: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]; what is floating point already is left alone."""
    return images if images.is_floating_point() else images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """[-1, 1] -> 0 .. 255, rounded; the same arithmetic as in the exported graph."""
    return (images.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def flip_horizontally(images: Tensor, which: Tensor) -> Tensor:
    """images (N, C, H, W), which (N,) bool -> the same, those mirrored."""
    return torch.where(which[:, None, None, None], images.flip(3), images)


def at_stage(images: Tensor, resolution: int, alpha: float) -> Tensor:
    """Reals as a growing network sees them (Karras et al. 2018, section 2). (N, C, R, R) -> (N, C, r, r).

    Box-filtered to `resolution` r, and during a fade-in blended by `alpha` with their own half-resolution version.
    """
    if images.shape[-1] != resolution:
        images = F.avg_pool2d(images, images.shape[-1] // resolution)
    if alpha < 1:
        half = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="nearest")
        images = half + alpha * (images - half)
    return images

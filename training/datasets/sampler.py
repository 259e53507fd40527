"""The order in which a run sees the images, and which of them are mirrored: functions of the seed and the position."""

import numpy as np
import torch
from torch import Tensor


class Sampler:
    """The order in which a run sees the images: every epoch a new permutation, a function of (seed, epoch) alone.

    So a run that goes on at image k needs nothing but k.
    """

    def __init__(self, size: int, seed: int):
        self.size, self.seed = size, seed
        self.epoch = -1
        self.permutation = torch.empty(0, dtype=torch.int64)

    def batch(self, position: int, size: int) -> Tensor:
        """Indices of the images at position .. position+size-1 of the endless stream -> (size,) int64."""
        taken: list[Tensor] = []
        while size:
            epoch, offset = divmod(position, self.size)
            if epoch != self.epoch:
                self.epoch = epoch
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                self.permutation = torch.randperm(self.size, generator=generator)
            part = self.permutation[offset : offset + size]
            taken.append(part)
            position, size = position + len(part), size - len(part)
        return torch.cat(taken)


def mirrored(n: int, position: int, seed: int) -> Tensor:
    """Which images at position .. position+n-1 of the endless stream are mirrored, about half: (n,) bool.

    A function of (seed, position) alone: a resumed run, or one that shares each batch out over more processes, mirrors
    the same ones.
    """
    # Philox is a counter: each step of it gives 4 words, so the words of step k are those of position k.
    words = np.random.Philox(key=seed % 2**64, counter=position).random_raw(4 * n)
    return torch.from_numpy((words[::4] & 1).astype(bool))

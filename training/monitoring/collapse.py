"""Signs that a run has collapsed, looked for at every snapshot and said in words.

A sign raises its alarm once it has been there at several looks in a row, and again only after a look without it.
Images are compared by their pixels, which needs no weights and took 0.07 s a look (256 images of 28 px, one core).
That is rough. Of test images of MNIST none of 50 draws raised an alarm; where one class was left out it was found
lost in 10 % (the 9) to 90 % (the 2) of draws, where two were, in 90 %. What a class looks like is for FID to say.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 32  # pixels, to which larger images are averaged: enough to tell them apart, and cheap
REFERENCE = 2000  # real images that generated ones are held against; by them 91 % of MNIST is read rightly
DISTANCED = 500  # of them that are held against each other: 125,000 pairs

# Samples of this project's MNIST models are 0.98 to 1.07 as far apart as the data, and test images of one digit alone
# 0.57 (the 1) to 0.94: below half they are not only of one kind but nearly the same image.
ALIKE = 0.5
FOUND = 0.1  # of its even share: a class with less is lost
# Real images that are misread or rare give a class less than its even share too. It is missed only if real ones give
# it this much of it.
RECOGNISABLE = 0.5
# Images a class, below which classes are not counted: with fewer, one that real images show at half its even share
# would be missing by chance more often than once in e^5 = 150 looks.
PICTURES_PER_CLASS = 10
# In the runs behind the published models D(real) stayed below 0.95 and D(fake) above 0.047.
CERTAIN = 0.99
CERTAIN_GAP = 2 * math.log(CERTAIN / (1 - CERTAIN))  # between the logits, where the loss looks at nothing else

# Looks in a row with a sign, until it is an alarm. The first look of a run may come before anything is learned, and
# a discriminator may be far ahead for a while and be caught up with.
LOOKS = {"samples_alike": 2, "classes_lost": 2, "discriminator_saturated": 3}


@dataclass(frozen=True)
class Alarm:
    name: str  # samples_alike, classes_lost, discriminator_saturated or fid_rising
    reason: str  # for people: what was found, and what it was held against


class CollapseDetector:
    """Holds what a generator makes against the images of a dataset, with their labels (M,) where there are some.

    `real` (M, C, R, R) is uint8, or float32 in [-1, 1]; a part of it is drawn, the same every time. FID rises once
    `patience` measurements in a row were worse than the best. `saturates` is False for the Wasserstein loss alone: a
    critic's logits have no end.
    """

    def __init__(
        self, real: Tensor, labels: Tensor | None, classes: int | None, patience: int, *, saturates: bool = True
    ):
        chosen = torch.randperm(len(real), generator=torch.Generator().manual_seed(0))[:REFERENCE]
        self.real = torch.cat([_reduced(real[part.to(real.device)], SIDE) for part in chosen.split(256)])
        if real.is_floating_point():
            self.real = self.real * 127.5 + 127.5
        self.labels = None if labels is None or classes is None else labels[chosen.to(labels.device)].to(real.device)
        self.classes = classes or 0
        self.saturates = saturates
        self.needed = {**LOOKS, "fid_rising": patience}
        self.counts = dict.fromkeys(self.needed, 0)  # looks in a row with the sign
        self.best_fid: float | None = None
        self._by_side: dict[int, _RealImages] = {}  # by the images' size: a growing network's changes

    def look(
        self, pictures: Tensor, statistics: Mapping[str, float], fid: float | None
    ) -> tuple[dict[str, float], list[Alarm]]:
        """images (N, C, r, r) uint8, statistics of the last tick, FID if it was measured -> measures and new alarms.

        Measures: `pairwise_distance`, the mean L2 distance between the images as a share of the real ones' own;
        `modes`, the classes found among them, where the data have labels and N is large enough to count.
        """
        reals = self._real_at(min(SIDE, pictures.shape[-1]))
        samples = _reduced(pictures.to(self.real.device), SIDE)
        # Where the data are one image over and over, so may the samples be.
        share = pairwise_distance(samples) / reals.distance if reals.distance else 1.0
        measures: dict[str, float] = {"pairwise_distance": share}
        signs = {"samples_alike": _samples_alike(share)}
        if self.labels is not None and len(samples) >= PICTURES_PER_CLASS * self.classes:
            found = reals.counts(samples, self.labels, self.classes) >= FOUND * len(samples) / self.classes
            measures["modes"] = int(found.sum())
            signs["classes_lost"] = _classes_lost(reals.recognisable & ~found, len(samples))
        if self.saturates:
            signs["discriminator_saturated"] = _saturated(statistics)
        if fid is not None:
            signs["fid_rising"] = self._fid_rising(fid)
            measures["fid"] = fid
        return measures, self._raised(signs)

    def state_dict(self) -> dict[str, Any]:
        """What has been seen so far, as plain values."""
        return {"counts": dict(self.counts), "best_fid": self.best_fid}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.counts = self.counts | state["counts"]
        self.best_fid = state["best_fid"]

    def _real_at(self, side: int) -> "_RealImages":
        if side not in self._by_side:
            self._by_side[side] = _RealImages(_reduced(self.real, side), self.labels, self.classes)
        return self._by_side[side]

    def _fid_rising(self, fid: float) -> str | None:
        if self.best_fid is None or fid < self.best_fid:
            self.best_fid = fid
            return None
        times = self.counts["fid_rising"] + 1
        return (
            f"FID is {fid:.1f}: worse than its best, {self.best_fid:.1f}, "
            f"for {times} measurement{'s' * (times > 1)} in a row."
        )

    def _raised(self, signs: Mapping[str, str | None]) -> list[Alarm]:
        """Counts the signs that were looked for; one that was not keeps its count."""
        alarms = []
        for name, reason in signs.items():
            self.counts[name] = self.counts[name] + 1 if reason else 0
            if reason and self.counts[name] == self.needed[name]:
                alarms.append(Alarm(name, reason))
        return alarms


class _RealImages:
    """Real images (M, C, r, r), and what they say of themselves: what generated ones are held against."""

    def __init__(self, real: Tensor, labels: Tensor | None, classes: int):
        self.rows = real.flatten(1)
        self.distance = pairwise_distance(real[:DISTANCED])
        if labels is not None:
            distances = torch.cdist(self.rows, self.rows).fill_diagonal_(math.inf)
            nearest, index = distances.min(dim=1)
            # An image further from all real ones than these are from each other shows no class: noise, or grey.
            self.limit = nearest.quantile(0.99)
            counts = labels[index].bincount(minlength=classes)
            self.recognisable = counts >= RECOGNISABLE * len(real) / classes  # (classes,) bool

    def counts(self, samples: Tensor, labels: Tensor, classes: int) -> Tensor:
        """How many samples (N, C, r, r) show each class, that of the nearest real image. -> (classes,) int64."""
        nearest, index = torch.cdist(samples.flatten(1), self.rows).min(dim=1)
        return labels[index[nearest <= self.limit]].bincount(minlength=classes)


def pairwise_distance(pictures: Tensor) -> float:
    """Mean L2 distance between two different images of (N, C, H, W) float, N at least 2."""
    return F.pdist(pictures.flatten(1)).mean().item()


def _reduced(pictures: Tensor, side: int) -> Tensor:
    """Box-filtered to `side` pixels where they are larger, as float32."""
    return F.adaptive_avg_pool2d(pictures.float(), min(side, pictures.shape[-1]))


def _samples_alike(share: float) -> str | None:
    if share >= ALIKE:
        return None
    return f"Samples are much alike: {share:.0%} as far apart as real pictures are, and {ALIKE:.0%} is the least."


def _classes_lost(lost: Tensor, n: int) -> str | None:
    """lost (classes,) bool, of n images."""
    if not lost.any():
        return None
    names = lost.nonzero().flatten().tolist()
    shown = ", ".join(map(str, names[:10])) + (", ..." if len(names) > 10 else "")
    return (
        f"{len(names)} of {len(lost)} classes are lost ({shown}): "
        f"each has less than {FOUND:.0%} of its even share of {n} pictures."
    )


def _saturated(statistics: Mapping[str, float]) -> str | None:
    real, fake = statistics["real_probability"], statistics["fake_probability"]
    if real > CERTAIN and fake < 1 - CERTAIN:
        return f"The discriminator has won: D(real) is {real:.4f} and D(fake) {fake:.4f}."
    gap = statistics.get("real_logit", 0.0) - statistics.get("fake_logit", 0.0)
    if gap > CERTAIN_GAP:
        return f"The discriminator has won: its logits of real and of generated pictures are {gap:.1f} apart."
    return None

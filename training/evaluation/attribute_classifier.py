"""The attribute classifier: a small network that reads the attributes of critters, with which style mixing is measured.

It is trained on the attributes that the critters were rendered with, once for each resolution, and kept beside the
data. Its accuracy on held-out critters goes with what it reads wherever that is shown.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from training.datasets import critters, loaders
from training.datasets.transforms import to_unit
from training.loop import checkpoint

TRAIN, HELD_OUT = 50_000, 2_500  # critters to train on and to be tested on
EPOCHS = 8
BATCH = 128
LEARNING_RATE = 2e-3
GRID = 16  # pixels at which the first convolution works: finer ones are folded into channels, so that none costs more
WIDTHS = (48, 64, 128)  # channels at 16, 8 and 4 px
NOISE = 0.15  # greatest standard deviation of what training images are worn with, in [-1, 1]
READ_BATCH = 500


class Network(nn.Module):
    """images (N, 3, R, R) in [-1, 1] -> for each attribute the logits of its values, side by side (N, K)."""

    def __init__(self, resolution: int, outputs: int):
        super().__init__()
        fold = max(resolution // GRID, 1)
        layers: list[nn.Module] = [nn.PixelUnshuffle(fold)]
        channels = 3 * fold**2
        for width in WIDTHS:
            layers += [*_convolution(channels, width, 1), *_convolution(width, width, 2)]
            channels = width
        side = resolution // fold // 2 ** len(WIDTHS)
        self.features = nn.Sequential(*layers)
        self.logits = nn.Linear(channels * side**2, outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.features(images).flatten(1))


@dataclass(frozen=True)
class AttributeClassifier:
    network: Network
    accuracy: dict[str, float]  # by attribute, on held-out critters ...
    confidence: dict[str, float]  # ... and its mean confidence there; on other images it may be less

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Images (N, R, R, 3) uint8 -> (N, 7) int64: for each of critters.ATTRIBUTES the likeliest value."""
        return _read(self.network, pictures)[0]

    def mean_confidence(self, pictures: np.ndarray) -> dict[str, float]:
        """The mean probability of the values that are read in images (N, R, R, 3) uint8, by attribute."""
        return _by_attribute(_read(self.network, pictures)[1])


def load(folder: Path, resolution: int, *, train: int = TRAIN, held_out: int = HELD_OUT) -> AttributeClassifier:
    """The classifier at `resolution`, trained (minutes on a CPU) where `folder` does not hold it yet."""
    path = folder / f"critters-reader-{critters.vocabulary()}-{resolution}.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(resolution, sum(_sizes()))
    if path.is_file():
        kept = checkpoint.load(path)
        network.load_state_dict(kept["network"])
        return AttributeClassifier(network.eval(), kept["accuracy"], kept["confidence"])
    images = loaders.load("critters", folder, resolution, "train", train).images
    _train(network, images, torch.from_numpy(critters.cached_attributes(folder, "train", train)))
    unseen = loaders.load("critters", folder, resolution, "test", held_out).images.permute(0, 2, 3, 1).numpy()
    values, confidences = _read(network, unseen)
    right = values == critters.cached_attributes(folder, "test", held_out)  # (N, 7)
    known = {"accuracy": _by_attribute(right), "confidence": _by_attribute(confidences)}
    checkpoint.save(path, {"network": network.state_dict(), **known})
    return AttributeClassifier(network, **known)


def _train(network: Network, images: Tensor, attributes: Tensor) -> None:
    """images (N, 3, R, R) uint8, attributes (N, 7)."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    network.train()
    with tqdm(total=EPOCHS * len(images), desc="training the attribute classifier", unit="img") as bar:
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(images), generator=generator).split(BATCH):
                logits = network(_worn(to_unit(images[batch]), generator))
                loss = torch.stack(
                    [F.cross_entropy(part, attributes[batch, k]) for k, part in enumerate(logits.split(_sizes(), 1))]
                ).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update(len(batch))
    network.eval()


def _worn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images with some noise, half of them blurred: generated ones are less clean than renders. (N, 3, R, R)."""
    strength = NOISE * torch.rand(len(images), 1, 1, 1, generator=generator)
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    mixed = images + (blurred - images) * (torch.rand(len(images), 1, 1, 1, generator=generator) * 2 - 1).clamp(min=0)
    return mixed + strength * torch.randn(images.shape, generator=generator)


@torch.no_grad()
def _read(network: Network, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, R, R, 3) uint8 -> the likeliest values (N, 7) int64, and their probabilities (N, 7)."""
    confidences, values = [], []
    for start in range(0, len(pictures), READ_BATCH):
        part = np.ascontiguousarray(pictures[start : start + READ_BATCH].transpose(0, 3, 1, 2))
        logits = network(to_unit(torch.from_numpy(part))).split(_sizes(), 1)
        best = [each.softmax(dim=1).max(dim=1) for each in logits]
        confidences.append(torch.stack([each.values for each in best], dim=1))
        values.append(torch.stack([each.indices for each in best], dim=1))
    return torch.cat(values).numpy(), torch.cat(confidences).numpy()


def _by_attribute(rows: np.ndarray) -> dict[str, float]:
    """(N, 7) -> the mean of each column."""
    return dict(zip(critters.ATTRIBUTES, rows.mean(axis=0).tolist(), strict=True))


def _sizes() -> list[int]:
    return [len(values) for values in critters.attribute_values().values()]


def _convolution(channels: int, width: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]

"""A small classifier trained on a model's pictures alone and tried on real ones: whether its classes are the real ones.

A generator whose pictures look right one by one may still miss how digits vary; what learns from them then fails on
real digits. The measure is GAN-train of Shmelkov et al. (2018, section 3), also the classification accuracy score of
Ravuri and Vinyals (2019).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import data, samples
from training.data import Dataset
from training.figures import Figure, Floor, figure
from training.subject import Subject

EPOCHS = 8
BATCH = 128
LEARNING_RATE = 1e-3
MOST = 60_000  # pictures to learn from
PART = 1000


class LeNet(nn.Module):
    """LeNet-5 (LeCun et al. 1998, section 2.B) with the ReLU and max-pooling of today. (N, C, R, R) -> (N, classes)."""

    def __init__(self, resolution: int, channels: int, classes: int):
        super().__init__()
        side = (resolution // 2 - 4) // 2
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(16 * side**2, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def gan_train(subject: Subject) -> list[Figure]:
    """How many real test pictures a LeNet reads that has seen generated ones alone: conditional models, labelled data.

    The floor is of the same LeNet after as many real pictures.
    """
    model = subject.model
    assert model.classes is not None
    train = subject.train
    test = data.load(subject.name, subject.data_folder, subject.resolution, "test")
    n = min(MOST, len(train))
    parts = [samples.generate(subject.runtime, start, min(PART, n - start)) for start in range(0, n, PART)]
    pictures = torch.from_numpy(np.concatenate([part[0] for part in parts])).permute(0, 3, 1, 2)
    labels = torch.from_numpy(np.concatenate([part[1] for part in parts if part[1] is not None]))
    assert train.labels is not None
    value, floor = (
        accuracy(train_on(images, classes, len(model.classes)), test)
        for images, classes in ((pictures, labels), (train.images[:n], train.labels[:n]))
    )
    protocol = (
        f"a LeNet-5 that learnt from {n:,} pictures in {EPOCHS} epochs (Adam at {LEARNING_RATE:g}, batch {BATCH}) "
        f"reads the {len(test):,} pictures of the test set"
    )
    reference = f"{test.source.name} test, all {len(test)}"
    return [figure("gan_train_accuracy", value, protocol, n, reference, Floor(floor, f"{n:,} training pictures"))]


def train_on(images: Tensor, labels: Tensor, classes: int) -> LeNet:
    """images (N, C, R, R) uint8 in any memory format, labels (N,) int64; the same network for the same pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = LeNet(images.shape[-1], images.shape[1], classes)
        optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(images)).split(BATCH):
                loss = F.cross_entropy(network(data.to_unit(images[batch])), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return network


@torch.no_grad()
def accuracy(network: LeNet, test: Dataset) -> float:
    """Share of `test` that it reads as labelled."""
    assert test.labels is not None
    predicted = torch.cat([network(data.to_unit(part)).argmax(dim=1) for part in test.images.split(PART)])
    return float((predicted == test.labels).float().mean())

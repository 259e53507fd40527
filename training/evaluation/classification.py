"""A small classifier between a conditional model's images and real ones: whether the classes of both are the same.

Trained on the model's images alone and tried on real ones, it shows whether they vary as real ones do: a generator
whose images look right one by one may still miss that. Trained on real ones and tried on the model's, it shows
whether those are of the class that was asked for. The two are GAN-train and GAN-test of Shmelkov et al. (2018, section
3); the first is also the classification accuracy score of Ravuri and Vinyals (2019).
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.datasets import loaders
from training.datasets.transforms import to_unit
from training.evaluation import samples
from training.evaluation.evaluation import Evaluation
from training.evaluation.metric import Baseline, Metric, Value, value

EPOCHS = 8
BATCH = 128
LEARNING_RATE = 1e-3
MOST = 60_000  # images to learn from
TRIED = 10_000  # of the model's that the LeNet of real ones reads
TOLD = 20  # classes at most that are told one by one
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


def measure(evaluation: Evaluation) -> list[Value]:
    """GAN-train and GAN-test, the latter by class too: of conditional models of labelled data.

    The baselines are of the LeNet that learnt from as many real images, on the real test images.
    """
    model, train = evaluation.model, evaluation.train
    assert model.classes is not None and train.labels is not None
    test = loaders.load(evaluation.name, evaluation.data_folder, evaluation.resolution, "test").of_classes(
        model.classes
    )
    n = min(MOST, len(train))
    parts = [samples.generate(evaluation.runtime, start, min(PART, n - start)) for start in range(0, n, PART)]
    pictures = torch.from_numpy(np.concatenate([part[0] for part in parts])).permute(0, 3, 1, 2)
    asked = torch.from_numpy(np.concatenate([part[1] for part in parts if part[1] is not None]))
    of_model, of_real = (
        train_on(images, labels, len(model.classes))
        for images, labels in ((pictures, asked), (train.images[:n], train.labels[:n]))
    )
    assert test.labels is not None
    truth = test.labels.numpy()
    real_as = read(of_real, test.images)
    accuracy, baseline = (float(np.mean(found == truth)) for found in (read(of_model, test.images), real_as))
    learnt = f"in {EPOCHS} epochs (Adam at {LEARNING_RATE:g}, batch {BATCH})"
    protocol = f"a LeNet-5 that learnt from {n:,} pictures {learnt} reads the {len(test):,} pictures of the test set"
    reference = f"{test.source.name} test, all {len(test)}"
    gan_train = value(
        "gan_train_accuracy", accuracy, protocol, n, reference, Baseline(baseline, f"{n:,} training pictures")
    )

    tried = min(TRIED, n)
    wanted, read_as = asked[:tried].numpy(), read(of_real, pictures[:tried])
    by_class = accuracy_by_class(read_as, wanted, model.classes)
    real_by_class = accuracy_by_class(real_as, truth, model.classes)
    protocol = f"a LeNet-5 that learnt from {n:,} real pictures {learnt} reads {tried:,} pictures, the classes in turn"
    where = f"{len(test):,} test pictures"
    details = {}
    if len(model.classes) <= TOLD:
        table = confusion(read_as, wanted, len(model.classes))
        details = {"by_class": by_class, "real_by_class": real_by_class, "confusion": table.tolist()}
    accuracy = float(np.mean(read_as == wanted))
    gan_test = value("gan_test_accuracy", accuracy, protocol, tried, reference, Baseline(baseline, where), **details)
    worst, real_worst = min(by_class.values()), min(real_by_class.values())
    worst_class = value("gan_test_worst_class", worst, protocol, tried, reference, Baseline(real_worst, where))
    return [gan_train, gan_test, worst_class]


def train_on(images: Tensor, labels: Tensor, classes: int) -> LeNet:
    """images (N, C, R, R) uint8 in any memory format, labels (N,) int64; the same network for the same images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = LeNet(images.shape[-1], images.shape[1], classes)
        optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(images)).split(BATCH):
                loss = F.cross_entropy(network(to_unit(images[batch])), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return network


@torch.no_grad()
def read(network: LeNet, images: Tensor) -> np.ndarray:
    """images (N, C, R, R) uint8 -> (N,) the classes it takes them for."""
    return torch.cat([network(to_unit(part)).argmax(dim=1) for part in images.split(PART)]).numpy()


def accuracy_by_class(predicted: np.ndarray, asked: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Share of images read as the class that was asked for, of each class that was; (N,) class indices both."""
    return {name: float((predicted[asked == k] == k).mean()) for k, name in enumerate(classes) if (asked == k).any()}


def confusion(predicted: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """Count of images asked as class i and read as class j -> (K, K); predicted and asked (N,) class indices."""
    return np.bincount(asked * classes + predicted, minlength=classes**2).reshape(classes, classes)


METRIC = Metric(
    "classification",
    measure,
    needs=lambda evaluation: bool(evaluation.model.classes) and evaluation.labelled,
)

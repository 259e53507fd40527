"""An evaluation: an exported model and the data it was trained on, each part loaded or computed when first needed."""

from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from serving.engine.runtime import Runtime
from training.datasets import loaders
from training.datasets.dataset import Dataset
from training.errors import DataError, TrainingError
from training.evaluation import inception, samples

LEAST = 10  # images on either side: of fewer there are no statistics, nor enough neighbours


class Evaluation:
    """A model, the real images it is held against, and the Inception features of both.

    `count` generated images are compared with `reference` test images, or as many as there are. Where a dataset
    is not divided the "test" images are those it was trained on, and `held_out` is false.
    """

    def __init__(
        self,
        runtime: Runtime,
        data_folder: Path,
        *,
        count: int,
        reference: int,
        inception_weights: Path | None,
        classifier: Path | None = None,  # of digits, an ONNX file
        device: torch.device | str,
    ):
        for name, pictures in (("samples", count), ("reference", reference)):
            if pictures < LEAST:
                raise TrainingError(f"`{name}` (={pictures}) must be at least {LEAST}.")
        self.runtime, self.model = runtime, runtime.model
        self.data_folder, self.count, self.reference = data_folder, count, reference
        self.inception_weights, self.classifier, self.device = inception_weights, classifier, device
        training = self.model.document["training"]
        self.imported = "recipe" not in training  # then the data are whatever images it is compared with
        unknown = {"name": "folder", "resolution": self.model.image.height, "count": None}
        recipe = unknown if self.imported else training["recipe"]["data"]
        self.name, self.resolution, self.trained_on = recipe["name"], recipe["resolution"], recipe["count"]
        self.mirrored = recipe.get("horizontal_flips", False)

    @cached_property
    def train(self) -> Dataset:
        """All that the model was trained on."""
        return self._load("train", self.trained_on)

    @cached_property
    def test(self) -> Dataset:
        """The first `reference` images that it was not trained on."""
        return self._load("test", self.reference)

    @property
    def required_classifier(self) -> Path:
        assert self.classifier is not None  # a metric that needs it has asked before
        return self.classifier

    @property
    def extractor(self) -> str:
        """The feature extractor, as protocols name it."""
        return inception.protocol(self.model.image.channels)

    @property
    def reference_images(self) -> str:
        """The images that samples are compared with, as protocols name them."""
        which = "first" if self.name in loaders.SOURCES else "evenly spaced"
        return f"{self.test.source.name} {self.test.split}, {which} {len(self.test)}"

    def protocol(self, how: str = "") -> str:
        """The protocol of a comparison of samples with the test images."""
        given = "the given pictures" if self.imported else "the pictures it was trained on"
        whose = f"the {self.test.split} set" if self.held_out else given
        sizes = f"{self.count:,} pictures against {len(self.test):,} of {whose}, {self.resolution} px"
        return f"{self.extractor}, {how}{sizes}"

    @property
    def held_out(self) -> bool:
        return self.test.split == "test"

    @property
    def labelled(self) -> bool:
        """Whether real images, some of them held out, have classes."""
        return self.held_out and self.test.labels is not None

    @cached_property
    def sample_features(self) -> np.ndarray:
        return self.features_of(self.sampled, self.count)

    def sampled(self, start: int, n: int) -> np.ndarray:
        """Images start .. start+n-1 of those that are measured."""
        return samples.generate(self.runtime, start, n)[0]

    @cached_property
    def mixed_features(self) -> np.ndarray:
        """Of as many mixes of two as there are samples."""
        return self.features_of(lambda start, n: samples.mixed(self.runtime, start, n), self.count, "-mixed")

    def truncated_features(self, psi: float) -> np.ndarray:
        """Of the samples at truncation `psi`; those of 1 are the samples'."""
        if psi == 1:
            return self.sample_features
        return self.features_of(
            lambda start, n: samples.truncated(self.runtime, psi, start, n), self.count, f"-psi-{psi:g}"
        )

    @cached_property
    def test_features(self) -> np.ndarray:
        return inception.dataset_features(self.test, self.name, self.data_folder, len(self.test), self.extract)

    @cached_property
    def train_features(self) -> np.ndarray:
        """Of as many training images as are compared: they stand in the samples' place, for the floor."""
        n = min(self.count, len(self.test))
        return inception.dataset_features(self.train, self.name, self.data_folder, n, self.extract)

    @cached_property
    def all_train_features(self) -> np.ndarray:
        return inception.dataset_features(self.train, self.name, self.data_folder, len(self.train), self.extract)

    def extract(self, pictures: np.ndarray) -> np.ndarray:
        """Inception features; the network is loaded for the first ones that no file holds."""
        return self._inception(pictures)

    def path_features(self, space: Literal["z", "w"], epsilon: float, paths: int) -> np.ndarray:
        """Of both ends of a step along each path, alternating -> (2 paths, 2048)."""

        def pictures(start: int, n: int) -> np.ndarray:
            return samples.path_ends(self.runtime, space, epsilon, start, n)

        return self.features_of(pictures, 2 * paths, f"-path-{space}-{epsilon:g}")

    def features_of(self, pictures: inception.Pictures, n: int, suffix: str = "") -> np.ndarray:
        """Of n images of the model, kept under its sha256; `suffix` says which images."""
        key = f"{self.model.id}-{self.model.sha256[:16]}{suffix}"
        path = inception.cache_folder(self.name, self.data_folder) / f"{key}.npy"
        return inception.features(pictures, n, self.extract, path, f"{self.model.id}{suffix}")

    @cached_property
    def _inception(self) -> inception.Extract:
        return inception.extractor(self.inception_weights, self.device)

    def _load(self, split: str, count: int | None) -> Dataset:
        found = loaders.load(self.name, self.data_folder, self.resolution, split, count)
        if found.channels != self.model.image.channels:
            raise DataError(
                f"{self.data_folder}: pictures of {found.channels} channels, where {self.model.id} makes "
                f"{self.model.image.channels}: `--data` must be what the model was trained on."
            )
        found = found.of_classes(self.model.classes) if self.model.classes else found
        if len(found) < LEAST:
            raise DataError(f"{self.data_folder}: {len(found)} pictures; at least {LEAST} are needed to compare with.")
        return found

"""Training loop of the DCGAN tutorials: the baseline of `benchmarks.training`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from training.networks import dcgan
from training.recipe import Recipe


class PlainLoop:
    """Training of a DCGAN as in PyTorch's tutorial, with the usual optimisations.

    As in the tutorial: DataLoader workers over a torchvision dataset, float32, contiguous tensors, one Adam for each
    network, and binary cross-entropy with separate backward passes for real and generated images. Both networks use the
    same generated images, and every statistic is read at each step. The networks are those of this project.
    """

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device, workers: int):
        torch.manual_seed(recipe.seed)
        torch.backends.cudnn.benchmark = True
        assert isinstance(recipe.network, dcgan.Config)
        o = recipe.optimizer
        self.device, self.latent_size = device, recipe.network.latent_size
        channels = 1 if recipe.data.name == "mnist" else 3
        shape = (recipe.network, recipe.data.resolution, channels)
        self.generator = dcgan.Generator(*shape).to(device)
        self.discriminator = dcgan.Discriminator(*shape).to(device)
        self.generator_optimizer = torch.optim.Adam(
            self.generator.parameters(), o.generator_lr, betas=(o.beta1, o.beta2)
        )
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), o.discriminator_lr, betas=(o.beta1, o.beta2)
        )
        self.criterion = nn.BCEWithLogitsLoss()
        self.loader = DataLoader(
            torchvision_images(recipe.data.name, folder, channels),
            o.batch,
            shuffle=True,
            num_workers=workers,
            # The default on Linux in the main process. In a spawned process the workers would be spawned too, and each
            # would take 400 MB.
            multiprocessing_context="fork" if workers else None,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            drop_last=True,
        )
        self.batches = self._endless()

    def _endless(self) -> Iterator[Tensor]:
        while True:
            for images, _ in self.loader:
                yield images

    def step(self) -> dict[str, float]:
        """Update each network once on the next batch. Return the losses and the mean probabilities."""
        real = next(self.batches).to(self.device, non_blocking=True)
        ones = torch.ones(len(real), device=self.device)
        zeros = torch.zeros(len(real), device=self.device)

        self.discriminator.zero_grad()
        real_logits = self.discriminator(real)
        real_loss = self.criterion(real_logits, ones)
        real_loss.backward()
        real_probability = real_logits.sigmoid().mean().item()
        fake = self.generator(torch.randn(len(real), self.latent_size, device=self.device))
        fake_logits = self.discriminator(fake.detach())
        fake_loss = self.criterion(fake_logits, zeros)
        fake_loss.backward()
        fake_probability = fake_logits.sigmoid().mean().item()
        self.discriminator_optimizer.step()

        self.generator.zero_grad()
        generator_loss = self.criterion(self.discriminator(fake), ones)
        generator_loss.backward()
        self.generator_optimizer.step()
        return {
            "discriminator_loss": (real_loss + fake_loss).item(),
            "generator_loss": generator_loss.item(),
            "real_probability": real_probability,
            "fake_probability": fake_probability,
        }


def torchvision_images(name: str, folder: Path, channels: int) -> Dataset[Any]:
    """Return MNIST, or the images in the class folders of `folder`, each as (C, R, R) in [-1, 1]."""
    from torchvision import datasets, transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * channels, [0.5] * channels)])
    if name == "mnist":
        return datasets.MNIST(str(folder), download=True, transform=transform)
    return datasets.ImageFolder(str(folder), transform)

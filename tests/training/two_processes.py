"""Run by test_distributed.py under `torchrun`: a few steps of a small recipe, and what the first process had then."""

import sys
from pathlib import Path

import torch

from small import DATA, small_recipe
from training.datasets import loaders
from training.loop import distributed
from training.loop.trainer import Trainer


def steps_of(count: int, processes: distributed.Processes, out: Path) -> None:
    torch.set_num_threads(1)
    recipe = small_recipe("mlp-mnist", "network.dropout=0.0")  # what a process draws for its share alone differs
    dataset = loaders.load("mnist", DATA, 28)
    trainer = Trainer(recipe, dataset, torch.device("cpu"), processes)
    found = []
    for _ in range(count):
        statistics = trainer.step()
        gradients = {
            f"{network}.{name}": parameter.grad.clone()
            for network in ("discriminator", "generator")
            for name, parameter in getattr(trainer, network).named_parameters()
        }
        found.append({"gradients": gradients, "loss": trainer.processes.average(statistics["discriminator_loss"])})
    if processes.first:
        torch.save({"steps": found, "images_seen": trainer.images_seen}, out)


if __name__ == "__main__":
    joined, _ = distributed.launch(torch.device("cpu"), None)
    steps_of(3, joined, Path(sys.argv[1]))

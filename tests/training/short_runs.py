"""What tests of runs share: every stabiliser, a run to its end, one that is stopped, and a comparison to the bit."""

import os
from pathlib import Path
from typing import Any

import torch

from training.loop import checkpoint, loop
from training.loop.trainer import Trainer

# What has a state, a clock or draws of its own, each on the smallest family that has it.
STABILIZERS = {
    "spectral norm": ("dcgan-mnist", "network.discriminator_norm=spectral"),
    "dropout": ("dcgan-mnist", "network.dropout=0.3"),
    "minibatch discrimination": ("dcgan-mnist", "network.minibatch_discrimination=4"),
    "noisy labels": ("mlp-mnist", "stabilizer.real_target=[0.7, 1.2]"),
    "feature matching": ("mlp-mnist", "stabilizer.feature_matching=0.5"),
    "mode seeking": ("cgan-mnist", "stabilizer.mode_seeking=0.1"),
    "mismatched labels": ("cgan-mnist", "stabilizer.mismatched_labels=0.5", "stabilizer.unrolled_steps=1"),
    "unrolling": ("mlp-mnist", "stabilizer.unrolled_steps=2"),
    "several discriminators": ("dcgan-mnist", "stabilizer.discriminators=2", "penalty.r1_gamma=0.1"),
    "augmentation": ("dcgan-mnist", "stabilizer.diff_augment=['color', 'translation', 'cutout']"),
    "input noise": ("mlp-mnist", "stabilizer.input_noise=0.1", "stabilizer.input_noise_kimg=0.2"),
    "horizontal flips": ("dcgan-mnist", "data.horizontal_flips=true"),
    "critic": (
        "mlp-mnist",
        "loss=wasserstein",
        "penalty.wgan_gp=10",
        "optimizer.discriminator_steps=2",
        "network.discriminator_norm=none",
    ),
    "weight clipping": ("mlp-mnist", "loss=wasserstein", "penalty.weight_clip=0.01"),
    "lazy R1 and R2": (
        "cgan-mnist",
        "loss=relativistic",
        "penalty.r1_gamma=1",
        "penalty.r1_interval=3",
        "penalty.r2_gamma=1",
    ),
    "path length": ("stylegan-lite-critters-grown", "penalty.path_length=2", "penalty.path_length_interval=3"),
}


def run_to_end(job: Trainer, folder: Path) -> dict[str, Any]:
    loop.run(job, folder, tick_kimg=0.08)
    return checkpoint.load(folder / "checkpoint.pt")


def stop_after(job: Trainer, steps: int, signum: int) -> None:
    """Makes the run receive a signal in the middle of a step, as from a keyboard or a cluster."""
    step = job.step

    def interrupted() -> dict[str, torch.Tensor]:
        if job.steps == steps - 1:
            os.kill(os.getpid(), signum)
        return step()

    job.step = interrupted  # pyright: ignore[reportAttributeAccessIssue]


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Paths at which two states are not equal to the bit."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if isinstance(a, dict):
        return [d for key in a.keys() | b.keys() for d in differences(a.get(key), b.get(key), f"{path}.{key}")]
    if isinstance(a, list | tuple):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{path}[{i}]")]
    return [] if a == b else [path]

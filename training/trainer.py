"""The training loop.

`Trainer` holds what a run consists of; `run` moves it to the end of its recipe. The clock is the number of real
pictures seen. Everything random comes from torch's default generators, whose states are part of the checkpoint, and
from the data order, which is a function of the clock: a resumed run repeats an unbroken one bit for bit on the CPU.
"""

import copy
import math
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from serving.engine.latents import address_range, latents
from training import checkpoint, ema, losses
from training.data import Dataset, Order, at_stage, to_unit
from training.errors import TrainingDiverged
from training.monitor import Monitor
from training.networks import NETWORKS
from training.networks.layers import Phase
from training.provenance import describe_device, git_revision
from training.recipe import Recipe, from_dict
from training.regularizers import gradient_penalty
from training.schedule import learning_rate_factor, phase_at

GRID = 64  # pictures in a sample grid


class Interrupted(Exception):
    """A signal asked the run to stop; it has been saved."""

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Trainer:
    """The networks, their average, the optimisers and the clock of one run."""

    def __init__(self, recipe: Recipe, dataset: Dataset, device: torch.device):
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, device
        self.classes = dataset.classes if recipe.family == "cgan" else None
        self.channels = dataset.channels
        self.source = dataset.source
        self.images = dataset.images.to(device)
        self.labels = dataset.labels.to(device) if self.classes and dataset.labels is not None else None
        self.order = Order(len(dataset), recipe.seed)

        family = NETWORKS[recipe.family]
        shape = (recipe.network, recipe.data.resolution, dataset.channels, len(self.classes or ()) or None)
        # channels_last: 1.1 to 1.2 times faster for these convolutions on a CPU; not measured on CUDA
        self.generator: Any = family.Generator(*shape).to(device, memory_format=torch.channels_last)
        self.discriminator: Any = family.Discriminator(*shape).to(device, memory_format=torch.channels_last)
        self.average: Any = copy.deepcopy(self.generator).eval().requires_grad_(False)
        o = recipe.optimizer
        self.generator_optimizer = torch.optim.Adam(
            self.generator.parameters(), o.generator_lr, betas=(o.beta1, o.beta2)
        )
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), o.discriminator_lr, betas=(o.beta1, o.beta2)
        )
        self.git_revision = git_revision()  # of the code that began the run
        self.images_seen = 0
        self.steps = 0
        self.seconds = 0.0  # of training, over all sessions of the run

    @property
    def kimg(self) -> float:
        return self.images_seen / 1000

    @property
    def finished(self) -> bool:
        return self.kimg >= self.recipe.total_kimg

    def step(self) -> dict[str, Tensor]:
        """One update of the discriminator and one of the generator. Returns scalars that stay on the device."""
        recipe, batch = self.recipe, self.recipe.optimizer.batch
        phase = phase_at(recipe, self.images_seen)
        factor = learning_rate_factor(recipe, self.images_seen)
        self.generator_optimizer.param_groups[0]["lr"] = recipe.optimizer.generator_lr * factor
        self.discriminator_optimizer.param_groups[0]["lr"] = recipe.optimizer.discriminator_lr * factor

        index = self.order.batch(self.images_seen, batch).to(self.device)
        real = to_unit(self.images[index]).contiguous(memory_format=torch.channels_last)
        if phase:
            real = at_stage(real, phase.resolution, phase.alpha)
        labels = None if self.labels is None else self.labels[index]

        # Discriminator
        of_discriminator, of_generator = losses.LOSSES[recipe.loss]
        penalty = recipe.penalty
        with self._autocast():
            with torch.no_grad():
                fake = self._fakes(labels, phase)
            real.requires_grad_(penalty.r1_gamma > 0 and self.steps % penalty.r1_interval == 0)
            fake.requires_grad_(penalty.r2_gamma > 0)
            real_logits = self.discriminator(real, labels, phase)
            fake_logits = self.discriminator(fake, labels, phase)
            discriminator_loss = of_discriminator(real_logits, fake_logits)
        statistics = {
            "discriminator_loss": discriminator_loss,
            "real_probability": real_logits.float().sigmoid().mean(),
            "fake_probability": fake_logits.float().sigmoid().mean(),
        }
        total = discriminator_loss
        if real.requires_grad:
            r1 = statistics["r1_penalty"] = gradient_penalty(real, real_logits)
            total = total + r1 * penalty.r1_gamma * penalty.r1_interval
        if fake.requires_grad:
            r2 = statistics["r2_penalty"] = gradient_penalty(fake, fake_logits)
            total = total + r2 * penalty.r2_gamma
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.discriminator_optimizer.step()

        # Generator
        self.discriminator.requires_grad_(False)
        with self._autocast():
            fake_logits = self.discriminator(self._fakes(labels, phase), labels, phase)
            if recipe.loss == "relativistic":  # the only one whose generator looks at real pictures
                real_logits = self.discriminator(real.detach(), labels, phase)
            generator_loss = of_generator(real_logits.detach(), fake_logits)
        self.generator_optimizer.zero_grad(set_to_none=True)
        generator_loss.backward()
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)

        self.images_seen += batch
        self.steps += 1
        decay = ema.decay_of(batch, recipe.ema_half_life_kimg, self.images_seen)
        ema.update(self.average, self.generator, decay)
        statistics["generator_loss"] = generator_loss
        return {name: value.detach() for name, value in statistics.items()}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

    def _fakes(self, labels: Tensor | None, phase: Phase | None) -> Tensor:
        """A batch of the generator's pictures, of the classes that the real ones have."""
        z = torch.randn(self.recipe.optimizer.batch, self.recipe.network.latent_size, device=self.device)
        return self.generator.fakes(z, labels, phase, self.recipe.style_mixing)

    @torch.no_grad()
    def sample_grid(self) -> np.ndarray:
        """Pictures of the average at addresses (0, 0), (0, 1), ... -> (GRID, R, R, C) uint8; classes in turn."""
        z = torch.from_numpy(latents(address_range(0, 0, GRID), self.recipe.network.latent_size)).to(self.device)
        phase = phase_at(self.recipe, self.images_seen)
        if self.classes:
            pictures = self.average(z, torch.arange(GRID, device=self.device) % len(self.classes))
        elif phase:
            ws = self.average.mapping(z)[:, None, :].expand(-1, self.average.style_layers, -1)
            pictures = self.average.synthesis(ws, phase)
        else:
            pictures = self.average(z)
        return to_uint8(pictures).permute(0, 2, 3, 1).cpu().numpy()

    def snapshot(self) -> dict[str, Any]:
        """What an export needs: the averaged generator, and where it came from."""
        return {
            "recipe": self.recipe.as_dict(),
            "images_seen": self.images_seen,
            "seconds": self.seconds,
            "device": describe_device(self.device),
            "git_revision": self.git_revision,
            "channels": self.channels,
            "classes": list(self.classes) if self.classes else None,
            "source": vars(self.source),
            "average": self.average.state_dict(),
        }

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on: a snapshot and the rest."""
        return self.snapshot() | {
            "steps": self.steps,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "generator_optimizer": self.generator_optimizer.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "random": checkpoint.random_states(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        for name in ("generator", "discriminator", "average", "generator_optimizer", "discriminator_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("images_seen", "steps", "seconds", "git_revision"):
            setattr(self, name, state[name])
        checkpoint.restore_random_states(state["random"])

    def check_finite(self, statistics: dict[str, float]) -> None:
        """Raises TrainingDiverged if a statistic or a weight is not finite, naming the first."""
        for name, value in statistics.items():
            if not math.isfinite(value):
                where = first_not_finite({"generator": self.generator, "discriminator": self.discriminator})
                raise TrainingDiverged(
                    f"{name.replace('_', ' ')} is {value} at {self.kimg:.1f} kimg; "
                    + (f"first seen in {where}." if where else "all weights and gradients are still finite.")
                )
        if where := first_not_finite({"average": self.average, "discriminator": self.discriminator}):
            raise TrainingDiverged(f"not finite at {self.kimg:.1f} kimg: {where}.")


def first_not_finite(networks: dict[str, nn.Module]) -> str | None:
    """The first gradient, weight or buffer that is not finite, such as "the gradient of generator.layers.0.weight"."""
    for network, module in networks.items():
        for name, parameter in module.named_parameters():
            if parameter.grad is not None and not parameter.grad.isfinite().all():
                return f"the gradient of {network}.{name}"
        for name, tensor in module.state_dict().items():
            if not tensor.isfinite().all():
                return f"{network}.{name}"
    return None


def to_uint8(pictures: Tensor) -> Tensor:
    """[-1, 1] -> 0 .. 255, rounded; the same arithmetic as in the exported graph."""
    return (pictures.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


def from_checkpoint(path: Path) -> tuple[Recipe, dict[str, Any]]:
    """The recipe and the state in a checkpoint file."""
    state = checkpoint.load(path)
    return from_dict(state["recipe"]), state


def run(
    trainer: Trainer,
    folder: Path,
    *,
    tick_kimg: float = 5.0,
    snapshot_kimg: float = 50.0,
    checkpoint_seconds: float = 180.0,
) -> None:
    """Trains to the end of the recipe; writes `checkpoint.pt` every few minutes, at the end, and on SIGINT and SIGTERM.

    Every `snapshot_kimg` the averaged generator is kept in `snapshots/` with its grid in `samples/`.

    Raises Interrupted once saved, and TrainingDiverged with the last good checkpoint left as it was.
    """
    received: list[int] = []

    def stop(signum: int, _: FrameType | None) -> None:
        received.append(signum)

    previous = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    monitor = Monitor(folder, trainer.recipe.total_kimg, trainer.kimg)
    try:
        _loop(trainer, monitor, received, tick_kimg, snapshot_kimg, checkpoint_seconds)
    finally:
        monitor.close()
        for s, handler in previous.items():
            signal.signal(s, handler)
    if received and not trainer.finished:
        raise Interrupted(received[0])


def _loop(
    trainer: Trainer,
    monitor: Monitor,
    received: list[int],
    tick_kimg: float,
    snapshot_kimg: float,
    checkpoint_seconds: float,
) -> None:
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    tick_began, tick_images = time.perf_counter(), trainer.images_seen
    saved = time.perf_counter()
    done = trainer.finished
    while not done:
        for name, value in trainer.step().items():
            sums[name] = sums[name] + value if name in sums else value
            counts[name] = counts.get(name, 0) + 1
        done = trainer.finished or bool(received)  # read once: a signal from here on waits for the next step
        if not done and not _passed(trainer, tick_kimg):
            continue

        statistics = {name: (total / counts[name]).item() for name, total in sums.items()}
        trainer.check_finite(statistics)
        now = time.perf_counter()
        trainer.seconds += now - tick_began
        phase = phase_at(trainer.recipe, trainer.images_seen)
        monitor.tick(
            {
                "kimg": trainer.kimg,
                "seconds": round(trainer.seconds, 2),
                "kimg_per_second": (trainer.images_seen - tick_images) / 1000 / (now - tick_began),
                **statistics,
                **({"resolution": phase.resolution, "alpha": phase.alpha} if phase else {}),
            }
        )
        sums, counts = {}, {}
        if done or _passed(trainer, snapshot_kimg):
            monitor.grid(trainer.sample_grid(), trainer.kimg, columns=10 if trainer.classes else 8)
            checkpoint.save(monitor.folder / "snapshots" / f"{trainer.kimg:08.1f}.pt", trainer.snapshot())
        if done or now - saved > checkpoint_seconds:
            checkpoint.save(monitor.folder / "checkpoint.pt", trainer.state())
            saved = time.perf_counter()
        tick_began, tick_images = time.perf_counter(), trainer.images_seen


def _passed(trainer: Trainer, every_kimg: float) -> bool:
    """Whether the last step went over a multiple of `every_kimg`."""
    every = round(every_kimg * 1000)
    return trainer.images_seen // every > (trainer.images_seen - trainer.recipe.optimizer.batch) // every

"""The trainer: the networks of a run, one step of training, and the state to continue from.

The clock is the number of real images seen. Random draws come from torch's default generator and from one for the
latents, whose states are part of the trainer's state, and from the data order, a function of the clock. So on the CPU a
resumed run repeats an unbroken one bit for bit.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from serving.engine.latents import address_range, latents
from training import augment, regularizers
from training.datasets.dataset import Dataset
from training.datasets.sampler import Sampler, mirrored
from training.datasets.transforms import at_stage, flip_horizontally, to_uint8, to_unit
from training.errors import DataError
from training.loop import ema
from training.loop.cuda_graphs import Graphs
from training.loop.device import describe_device, git_revision, precision_on
from training.loop.distributed import Processes
from training.loop.schedule import Schedule, input_noise_std, learning_rate_factor, phase_at
from training.losses import LOSSES
from training.networks import NETWORKS, build_discriminator
from training.networks.layers import Ensemble, Phase
from training.recipe import Recipe
from training.unrolled import unrolled

GRID = 64  # images in a sample grid
SAMPLING_BATCH = 64
MODULES = ("generator", "discriminator", "average", "generator_optimizer", "discriminator_optimizer")

Statistics = dict[str, Tensor]  # scalars that stay on the device
Discriminate = Callable[[Tensor], Tensor]  # images -> logits


class Kind(NamedTuple):
    """What decides which kernels a step launches: steps of one kind differ in their inputs only."""

    phase: Phase | None
    input_noise: float  # standard deviation
    r1: bool  # whether the penalty is due
    path_length: bool


class Inputs(NamedTuple):
    """Inputs of a step; k is `discriminator_steps`, n this process's share of a batch."""

    indices: Tensor  # (k, n) int64: the real images of each update of the discriminator
    mirrored: Tensor | None  # (k, n) bool
    generator_lr: float | Tensor
    discriminator_lr: float | Tensor
    ema_decay: float | Tensor


class Trainer:
    """The networks, their average, the optimisers and the clock of one run. Raises RecipeError and DataError.

    The recipe is fixed. `schedule`, which says where the run ends, is state: see `move_end`.
    """

    def __init__(
        self, recipe: Recipe, dataset: Dataset, device: torch.device, processes: Processes | None = None
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, device
        self.schedule = Schedule.of(recipe)
        self.precision = precision_on(device, recipe.precision)
        self.processes = processes or Processes()
        self.share = self.processes.share(recipe.optimizer.batch)
        if recipe.family == "cgan" and (dataset.labels is None or dataset.classes is None):
            raise DataError(f"{dataset.source.name} has no labels, and family 'cgan' needs them; 'dcgan' does without.")
        self.classes = dataset.classes if recipe.family == "cgan" else None
        if recipe.stabilizer.mismatched_labels and len(self.classes or ()) < 2:
            raise DataError(f"{dataset.source.name} has one class, and `stabilizer.mismatched_labels` needs another.")
        self.dataset = dataset
        self.images = dataset.images.to(device)
        self.labels = dataset.labels.to(device) if self.classes and dataset.labels is not None else None
        self.sampler = Sampler(len(dataset), recipe.seed)

        shape = (recipe.network, recipe.data.resolution, dataset.channels, len(self.classes or ()) or None)
        # channels_last: 1.1 to 1.2 times faster for these convolutions on a CPU; not measured on CUDA
        self.generator: Any = NETWORKS[recipe.family].Generator(*shape).to(device, memory_format=torch.channels_last)
        discriminators: list[Any] = [
            build_discriminator(recipe.family, *shape) for _ in range(recipe.stabilizer.discriminators)
        ]
        discriminator: Any = Ensemble(discriminators) if len(discriminators) > 1 else discriminators[0]
        self.discriminator: Any = discriminator.to(device, memory_format=torch.channels_last)
        self.average: Any = copy.deepcopy(self.generator).eval().requires_grad_(False)
        o = recipe.optimizer
        # fused: both updates in 3.1 vs 4.1 ms, of the 95 ms that a step of DCGAN-28 takes one core
        adam = partial(torch.optim.Adam, betas=(o.beta1, o.beta2), fused=True)
        self.generator_optimizer = adam(self.generator.parameters(), o.generator_lr)
        self.discriminator_optimizer = adam(self.discriminator.parameters(), o.discriminator_lr)
        self.path_length_mean = torch.zeros((), device=device)
        self.git_revision = git_revision()  # of the code that began the run
        self.images_seen = 0
        self.steps = 0
        self.seconds = 0.0  # of training, over all sessions of the run

        self.latent_source = torch.Generator(device).manual_seed(recipe.seed)  # the same in every process
        self._record_steps()
        if not self.processes.first:
            torch.manual_seed(recipe.seed + self.processes.rank)  # what a process draws for its share only

    @property
    def kimg(self) -> float:
        return self.images_seen / 1000

    @property
    def where(self) -> str:
        """The device, its precision and the processes, as the model card shows them."""
        return describe_device(self.device, self.precision, self.processes.count)

    @property
    def images_per_step(self) -> int:
        return self.recipe.optimizer.batch * self.recipe.optimizer.discriminator_steps

    @property
    def finished(self) -> bool:
        return self.kimg >= self.schedule.total_kimg

    def step(self) -> Statistics:
        """One update of the generator after `discriminator_steps` of the discriminator. Returns scalars."""
        kind, inputs = self._kind(), self._inputs()
        if kind.phase:
            for network in (self.generator, self.discriminator):
                network.grow_to(kind.phase)
        compute = partial(self._updates, kind)
        statistics = self.graphs.run(kind, inputs, compute) if self.graphs else compute(inputs)
        self.images_seen += self.images_per_step
        self.steps += 1
        return statistics

    def _updates(self, kind: Kind, inputs: Inputs) -> Statistics:
        self.generator_optimizer.param_groups[0]["lr"] = inputs.generator_lr
        self.discriminator_optimizer.param_groups[0]["lr"] = inputs.discriminator_lr
        for k in range(self.recipe.optimizer.discriminator_steps - 1):
            self._discriminator_step(*self._batch(inputs, k, kind.phase), kind)
        real, labels = self._batch(inputs, -1, kind.phase)
        statistics = self._discriminator_step(real, labels, kind)
        statistics |= self._generator_step(real, labels, kind)
        ema.update(self.average, self.generator, inputs.ema_decay)
        return {name: value.detach() for name, value in statistics.items()}

    def _discriminator_step(self, real: Tensor, labels: Tensor | None, kind: Kind) -> Statistics:
        """One update of D on real (n, C, r, r), labels (n,), and as many generated images."""
        penalty = self.recipe.penalty

        def discriminate(images: Tensor) -> Tensor:
            return self.discriminator(self._seen(images, kind), labels)

        with self._autocast():
            with torch.no_grad():
                fake = self.generator.fakes(self._latents(), labels, self.recipe.style_mixing)
            real.requires_grad_(kind.r1)
            fake.requires_grad_(penalty.r2_gamma > 0)
            real_logits, fake_logits = discriminate(real), discriminate(fake)
            mismatched_logits = self._mismatched(self.discriminator, real, labels, kind)
            discriminator_loss = self._discriminator_loss(real_logits, fake_logits, mismatched_logits)
        statistics = {
            "discriminator_loss": discriminator_loss,
            "real_logit": real_logits.float().mean(),
            "fake_logit": fake_logits.float().mean(),
            "real_probability": real_logits.float().sigmoid().mean(),
            "fake_probability": fake_logits.float().sigmoid().mean(),
        }
        total = discriminator_loss
        if real.requires_grad:
            r1 = statistics["r1_penalty"] = regularizers.gradient_penalty(real, real_logits)
            total = total + r1 * penalty.r1_gamma * penalty.r1_interval
        if fake.requires_grad:
            r2 = statistics["r2_penalty"] = regularizers.gradient_penalty(fake, fake_logits)
            total = total + r2 * penalty.r2_gamma
        if penalty.wgan_gp:
            with self._autocast():
                between = regularizers.wgan_gradient_penalty(discriminate, real.detach(), fake.detach())
            statistics["wgan_gradient_penalty"] = between
            total = total + between * penalty.wgan_gp
        norm = self._descend(total, self.discriminator, self.discriminator_optimizer)
        if penalty.weight_clip:
            regularizers.clip_weights(self.discriminator, penalty.weight_clip)
        return statistics | {"discriminator_gradient_norm": norm}

    def _generator_step(self, real: Tensor, labels: Tensor | None, kind: Kind) -> Statistics:
        """One update of G; real (n, C, r, r) and labels (n,) are those of D's last update."""
        recipe, stabilizer, penalty = self.recipe, self.recipe.stabilizer, self.recipe.penalty
        loss = LOSSES[recipe.loss]
        real = real.detach()
        statistics: Statistics = {}
        self.discriminator.requires_grad_(False)
        with self._autocast():
            z = self._latents()
            fake = self.generator.fakes(z, labels, recipe.style_mixing)
            discriminate = self._discriminator_ahead(real, fake, labels, kind)
            fake_logits = discriminate(self._seen(fake, kind))
            real_logits = discriminate(self._seen(real, kind)) if loss.compares else fake_logits  # else not looked at
            generator_loss = total = loss.generator(real_logits, fake_logits)
            if stabilizer.feature_matching:
                real_features = self.discriminator.features(self._seen(real, kind), labels)
                fake_features = self.discriminator.features(self._seen(fake, kind), labels)
                matching = statistics["feature_matching"] = regularizers.feature_matching(real_features, fake_features)
                total = total + stabilizer.feature_matching * (matching - total)
            if stabilizer.mode_seeking:
                other_z = self._latents()
                other = self.generator.fakes(other_z, labels, recipe.style_mixing)
                seeking = statistics["mode_seeking"] = regularizers.mode_seeking(fake, other, z, other_z)
                total = total + stabilizer.mode_seeking * seeking
            if kind.path_length:
                half = z[: len(z) // 2]  # as Karras et al.'s code: the penalty costs a second backward pass
                ws = self.generator.styles(half, recipe.style_mixing)
                images = self.generator.synthesis(ws, random_noise=True)
                length, mean = regularizers.path_length(images, ws, self.path_length_mean)
                self.path_length_mean.copy_(self.processes.average(mean))
                statistics["path_length_penalty"] = length
                total = total + length * penalty.path_length * penalty.path_length_interval
        norm = self._descend(total, self.generator, self.generator_optimizer)
        self.discriminator.requires_grad_(True)
        return statistics | {"generator_loss": generator_loss, "generator_gradient_norm": norm}

    def _kind(self) -> Kind:
        recipe, penalty = self.recipe, self.recipe.penalty
        return Kind(
            phase=phase_at(recipe, self.images_seen),
            input_noise=input_noise_std(recipe.stabilizer, self.images_seen),
            r1=penalty.r1_gamma > 0 and self.steps % penalty.r1_interval == 0,
            path_length=penalty.path_length > 0 and self.steps % penalty.path_length_interval == 0,
        )

    def _inputs(self) -> Inputs:
        recipe, optimizer, size = self.recipe, self.recipe.optimizer, self.images_per_step
        indices = self.sampler.batch(self.images_seen, size).view(-1, optimizer.batch)
        flips = None
        if recipe.data.horizontal_flips:
            flips = mirrored(size, self.images_seen, recipe.seed).view(indices.shape)[:, self.share]
        factor = learning_rate_factor(self.schedule, self.images_seen)
        return Inputs(
            indices=indices[:, self.share],
            mirrored=flips,
            generator_lr=optimizer.generator_lr * factor,
            discriminator_lr=optimizer.discriminator_lr * factor,
            ema_decay=ema.decay_of(size, recipe.ema_half_life_kimg, self.images_seen + size),
        )

    def _batch(self, inputs: Inputs, k: int, phase: Phase | None) -> tuple[Tensor, Tensor | None]:
        """This process's share of the real images, and their labels, for the k-th update of the discriminator."""
        index = inputs.indices[k].to(self.device)
        real = to_unit(self.images[index])
        if inputs.mirrored is not None:
            real = flip_horizontally(real, inputs.mirrored[k].to(self.device))
        real = real.contiguous(memory_format=torch.channels_last)
        if phase:
            real = at_stage(real, phase.resolution, phase.alpha)
        return real, None if self.labels is None else self.labels[index]

    def _latents(self) -> Tensor:
        """This process's share of a batch of latents."""
        size = (self.recipe.optimizer.batch, self.recipe.network.latent_size)
        return torch.randn(size, generator=self.latent_source, device=self.device)[self.share]

    def _seen(self, images: Tensor, kind: Kind) -> Tensor:
        """Images as the discriminator sees them: augmented, and with noise, real and generated ones alike."""
        if policy := self.recipe.stabilizer.diff_augment:
            images = augment.diff_augment(images, policy)
        return augment.input_noise(images, kind.input_noise)

    def _mismatched(self, discriminator: Any, real: Tensor, labels: Tensor | None, kind: Kind) -> Tensor | None:
        """Logits of real images with another's label (Reed et al. 2016, algorithm 1), where the recipe has them."""
        if not self.recipe.stabilizer.mismatched_labels or labels is None or self.classes is None:
            return None
        others = regularizers.other_labels(labels, len(self.classes))
        return discriminator(self._seen(real.detach(), kind), others)

    def _discriminator_loss(self, real: Tensor, fake: Tensor, mismatched: Tensor | None) -> Tensor:
        """The recipe's loss of D from logits (n,), or (K, n) of K discriminators."""
        loss, stabilizer = LOSSES[self.recipe.loss], self.recipe.stabilizer
        against = partial(loss.discriminator, real)
        if loss.has_targets:
            target = regularizers.real_targets(real.shape[-1], *stabilizer.real_target, device=self.device)
            against = partial(against, target=target)
        if mismatched is None:
            return against(fake)
        return against(fake).lerp(against(mismatched), stabilizer.mismatched_labels)

    def _discriminator_ahead(self, real: Tensor, fake: Tensor, labels: Tensor | None, kind: Kind) -> Discriminate:
        """The discriminator as it is or, unrolled, as it will be, differentiable with respect to the generator."""
        if not self.recipe.stabilizer.unrolled_steps:
            return lambda images: self.discriminator(images, labels)

        def loss_of(ahead: Callable[..., Tensor]) -> Tensor:
            real_logits, fake_logits = (ahead(self._seen(images, kind), labels) for images in (real, fake))
            mismatched_logits = self._mismatched(ahead, real, labels, kind)
            return self._discriminator_loss(real_logits, fake_logits, mismatched_logits)

        steps = self.recipe.stabilizer.unrolled_steps
        parameters = unrolled(self.discriminator, self.discriminator_optimizer, loss_of, steps)
        return lambda images: functional_call(self.discriminator, parameters, (images, labels))

    def _descend(self, total: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
        """One optimiser step down the gradient of `total` -> the gradient's norm."""
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.processes.average_gradients(network.parameters())
        norm = nn.utils.get_total_norm(p.grad for p in network.parameters() if p.grad is not None)
        optimizer.step()
        return norm

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    def _record_steps(self) -> None:
        """Starts to record CUDA graphs anew, where it can: not where processes average, nor with D unrolled."""
        possible = self.device.type == "cuda" and self.processes.count == 1
        possible = possible and not self.recipe.stabilizer.unrolled_steps
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            optimizer.param_groups[0]["capturable"] = possible
        self.graphs: Graphs[Inputs] | None = None
        if possible:
            torch.backends.cudnn.benchmark = True  # shapes recur
            self.graphs = Graphs(self.device, [self.latent_source])

    def move_end(self, schedule: Schedule) -> None:
        """Sets where the run ends; to be called only before its rates decay (see `schedule.moved`)."""
        self.schedule = schedule

    def add_seconds(self, seconds: float) -> None:
        """Adds to the time of training."""
        self.seconds += seconds

    @torch.no_grad()
    def sample_images(self, n: int, seed: int = 0) -> np.ndarray:
        """Images of the average at addresses (seed, 0 .. n-1) -> (n, r, r, C) uint8; classes in turn."""
        if phase := phase_at(self.recipe, self.images_seen):
            self.average.grow_to(phase)
        parts = []
        for start in range(0, n, SAMPLING_BATCH):
            addresses = address_range(seed, start, min(SAMPLING_BATCH, n - start))
            inputs = [torch.from_numpy(latents(addresses, self.recipe.network.latent_size)).to(self.device)]
            if self.classes:
                inputs.append(torch.arange(start, start + len(addresses), device=self.device) % len(self.classes))
            parts.append(to_uint8(self.average(*inputs)).permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(parts)

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to continue, as tensors and plain values. Every process must call it."""
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            **{name: getattr(self, name).state_dict() for name in MODULES},
            "images_seen": self.images_seen,
            "steps": self.steps,
            "seconds": self.seconds,
            "schedule": self.schedule._asdict(),
            "git_revision": self.git_revision,
            "path_length_mean": self.path_length_mean,
            "latent_source": self.latent_source.get_state(),
            "random": self.processes.gather(random),  # of each process
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Continues from a `state_dict` -> whether as the run that gave it would have continued.

        With another number of processes or on another kind of device, random draws begin anew.
        """
        for name in MODULES:
            getattr(self, name).load_state_dict(state[name])
        self.images_seen, self.steps, self.seconds = state["images_seen"], state["steps"], state["seconds"]
        self.schedule = Schedule(**state["schedule"])
        self.git_revision = state["git_revision"]
        self._record_steps()  # the optimisers' state lies elsewhere now
        self.path_length_mean.copy_(state["path_length_mean"])
        random = state["random"]
        if len(random) == self.processes.count and ("cuda" in random[0]) == (self.device.type == "cuda"):
            self.latent_source.set_state(state["latent_source"].cpu())
            torch.set_rng_state(random[self.processes.rank]["cpu"].cpu())
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(random[self.processes.rank]["cuda"].cpu(), self.device)
            return True
        self.latent_source.manual_seed(self.recipe.seed + self.images_seen)
        torch.manual_seed(self.recipe.seed + self.images_seen + self.processes.rank)
        return False

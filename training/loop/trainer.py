"""What a run consists of, and one step of it. `training.run_state` keeps it and brings it back.

The clock is the number of real pictures seen. What is random comes from torch's default generator and from one for the
latents, whose states are part of what is kept, and from the data order, which is a function of the clock: a resumed run
repeats an unbroken one bit for bit on the CPU.
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
from training.loop.device import precision_on
from training.loop.distributed import Processes
from training.loop.provenance import describe_device, git_revision
from training.loop.schedule import learning_rate_factor, phase_at
from training.losses import LOSSES
from training.networks import NETWORKS, build_discriminator
from training.networks.layers import Ensemble, Phase
from training.recipe import Recipe
from training.unrolled import unrolled

GRID = 64  # pictures in a sample grid
SAMPLING_BATCH = 64

Statistics = dict[str, Tensor]  # scalars that stay on the device
Discriminate = Callable[[Tensor], Tensor]  # images -> logits


class Kind(NamedTuple):
    """What decides which kernels a step launches: steps that are alike in it differ in their inputs alone."""

    phase: Phase | None
    input_noise: float  # standard deviation
    r1: bool  # whether the penalty is due
    path_length: bool


class Inputs(NamedTuple):
    """What a step is told; k is `discriminator_steps`, n this process's share of a batch."""

    pictures: Tensor  # (k, n) int64: numbers of the real ones of each update of the discriminator
    mirrored: Tensor | None  # (k, n) bool
    generator_lr: float | Tensor
    discriminator_lr: float | Tensor
    ema_decay: float | Tensor


class Trainer:
    """The networks, their average, the optimisers and the clock of one run."""

    def __init__(
        self, recipe: Recipe, dataset: Dataset, device: torch.device, processes: Processes | None = None
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, device
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
        self.order = Sampler(len(dataset), recipe.seed)

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
        # fused: both updates in 3.1 ms in the place of 4.1, of the 95 ms that a step of DCGAN-28 takes one core
        self.generator_optimizer = torch.optim.Adam(
            self.generator.parameters(), o.generator_lr, betas=(o.beta1, o.beta2), fused=True
        )
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), o.discriminator_lr, betas=(o.beta1, o.beta2), fused=True
        )
        self.path_length_mean = torch.zeros((), device=device)
        self.git_revision = git_revision()  # of the code that began the run
        self.images_seen = 0
        self.steps = 0
        self.seconds = 0.0  # of training, over all sessions of the run

        self.latent_source = torch.Generator(device).manual_seed(recipe.seed)  # the same in every process
        self.record_steps()
        if not self.processes.first:
            torch.manual_seed(recipe.seed + self.processes.rank)  # what a process draws for its share alone

    @property
    def kimg(self) -> float:
        return self.images_seen / 1000

    @property
    def where(self) -> str:
        """The device, what it computes in, and the processes, as the model card has them."""
        return describe_device(self.device, self.precision, self.processes.count)

    @property
    def images_per_step(self) -> int:
        return self.recipe.optimizer.batch * self.recipe.optimizer.discriminator_steps

    @property
    def finished(self) -> bool:
        return self.kimg >= self.recipe.total_kimg

    def step(self) -> Statistics:
        """One update of the generator after `discriminator_steps` of the discriminator. Returns scalars."""
        kind, inputs = self._kind(), self._inputs()
        compute = partial(self._updates, kind)
        statistics = self.graphs.run(kind, inputs, compute) if self.graphs else compute(inputs)
        self.images_seen += self.images_per_step
        self.steps += 1
        return statistics

    def record_steps(self) -> None:
        """Begins anew to record steps, where they can be: not where processes average, nor with D unrolled."""
        possible = self.device.type == "cuda" and self.processes.count == 1
        possible = possible and not self.recipe.stabilizer.unrolled_steps
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            optimizer.param_groups[0]["capturable"] = possible
        self.graphs: Graphs[Inputs] | None = None
        if possible:
            torch.backends.cudnn.benchmark = True  # shapes recur
            self.graphs = Graphs(self.device, [self.latent_source])

    def _kind(self) -> Kind:
        recipe, penalty = self.recipe, self.recipe.penalty
        return Kind(
            phase=phase_at(recipe, self.images_seen),
            input_noise=augment.input_noise_std(recipe.stabilizer, self.images_seen),
            r1=penalty.r1_gamma > 0 and self.steps % penalty.r1_interval == 0,
            path_length=penalty.path_length > 0 and self.steps % penalty.path_length_interval == 0,
        )

    def _inputs(self) -> Inputs:
        recipe, optimizer, size = self.recipe, self.recipe.optimizer, self.images_per_step
        index = self.order.batch(self.images_seen, size).view(-1, optimizer.batch)
        flips = None
        if recipe.data.horizontal_flips:
            flips = mirrored(size, self.images_seen, recipe.seed).view(index.shape)[:, self.share]
        factor = learning_rate_factor(recipe, self.images_seen)
        return Inputs(
            pictures=index[:, self.share],
            mirrored=flips,
            generator_lr=optimizer.generator_lr * factor,
            discriminator_lr=optimizer.discriminator_lr * factor,
            ema_decay=ema.decay_of(size, recipe.ema_half_life_kimg, self.images_seen + size),
        )

    def _updates(self, kind: Kind, inputs: Inputs) -> Statistics:
        self.generator_optimizer.param_groups[0]["lr"] = inputs.generator_lr
        self.discriminator_optimizer.param_groups[0]["lr"] = inputs.discriminator_lr
        for k in range(self.recipe.optimizer.discriminator_steps - 1):
            self._update_discriminator(*self._batch(inputs, k, kind.phase), kind)
        real, labels = self._batch(inputs, -1, kind.phase)
        statistics = self._update_discriminator(real, labels, kind)
        statistics |= self._update_generator(real, labels, kind)
        ema.update(self.average, self.generator, inputs.ema_decay)
        return {name: value.detach() for name, value in statistics.items()}

    def _batch(self, inputs: Inputs, k: int, phase: Phase | None) -> tuple[Tensor, Tensor | None]:
        """This process's share of the real pictures, and their labels, of an update of the discriminator."""
        index = inputs.pictures[k].to(self.device)
        real = to_unit(self.images[index])
        if inputs.mirrored is not None:
            real = flip_horizontally(real, inputs.mirrored[k].to(self.device))
        real = real.contiguous(memory_format=torch.channels_last)
        if phase:
            real = at_stage(real, phase.resolution, phase.alpha)
        return real, None if self.labels is None else self.labels[index]

    def _update_discriminator(self, real: Tensor, labels: Tensor | None, kind: Kind) -> Statistics:
        penalty, phase = self.recipe.penalty, kind.phase

        def discriminate(images: Tensor) -> Tensor:
            return self.discriminator(self._seen(images, kind), labels, phase)

        with self._autocast():
            with torch.no_grad():
                fake = self.generator.fakes(self._latents(), labels, phase, self.recipe.style_mixing)
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

    def _update_generator(self, real: Tensor, labels: Tensor | None, kind: Kind) -> Statistics:
        recipe, stabilizer, penalty = self.recipe, self.recipe.stabilizer, self.recipe.penalty
        phase = kind.phase
        loss = LOSSES[recipe.loss]
        real = real.detach()
        statistics: Statistics = {}
        self.discriminator.requires_grad_(False)
        with self._autocast():
            z = self._latents()
            fake = self.generator.fakes(z, labels, phase, recipe.style_mixing)
            discriminate = self._discriminator_ahead(real, fake, labels, kind)
            fake_logits = discriminate(self._seen(fake, kind))
            real_logits = discriminate(self._seen(real, kind)) if loss.compares else fake_logits  # else not looked at
            generator_loss = total = loss.generator(real_logits, fake_logits)
            if stabilizer.feature_matching:
                real_features = self.discriminator.features(self._seen(real, kind), labels, phase)
                fake_features = self.discriminator.features(self._seen(fake, kind), labels, phase)
                matching = statistics["feature_matching"] = regularizers.feature_matching(real_features, fake_features)
                total = total + stabilizer.feature_matching * (matching - total)
            if stabilizer.mode_seeking:
                other_z = self._latents()
                other = self.generator.fakes(other_z, labels, phase, recipe.style_mixing)
                seeking = statistics["mode_seeking"] = regularizers.mode_seeking(fake, other, z, other_z)
                total = total + stabilizer.mode_seeking * seeking
            if kind.path_length:
                half = z[: len(z) // 2]  # as Karras et al.'s code: the penalty costs a second backward pass
                ws = self.generator.styles(half, phase, recipe.style_mixing)
                pictures = self.generator.synthesis(ws, phase, random_noise=True)
                length, mean = regularizers.path_length(pictures, ws, self.path_length_mean)
                self.path_length_mean.copy_(self.processes.average(mean))
                statistics["path_length_penalty"] = length
                total = total + length * penalty.path_length * penalty.path_length_interval
        norm = self._descend(total, self.generator, self.generator_optimizer)
        self.discriminator.requires_grad_(True)
        return statistics | {"generator_loss": generator_loss, "generator_gradient_norm": norm}

    def _mismatched(self, discriminator: Any, real: Tensor, labels: Tensor | None, kind: Kind) -> Tensor | None:
        """Logits of real pictures with another's label (Reed et al. 2016, algorithm 1), where the recipe has them."""
        if not self.recipe.stabilizer.mismatched_labels or labels is None or self.classes is None:
            return None
        others = regularizers.other_labels(labels, len(self.classes))
        return discriminator(self._seen(real.detach(), kind), others, kind.phase)

    def _discriminator_loss(self, real: Tensor, fake: Tensor, mismatched: Tensor | None) -> Tensor:
        """Of logits."""
        loss, stabilizer = LOSSES[self.recipe.loss], self.recipe.stabilizer
        against = partial(loss.discriminator, real)
        if loss.has_targets:
            target = regularizers.real_targets(real.shape[-1], *stabilizer.real_target, device=self.device)
            against = partial(against, target=target)
        if mismatched is None:
            return against(fake)
        return against(fake).lerp(against(mismatched), stabilizer.mismatched_labels)

    def _discriminator_ahead(self, real: Tensor, fake: Tensor, labels: Tensor | None, kind: Kind) -> Discriminate:
        """The discriminator as it is or, unrolled, as it will be, with the generator's part in that differentiable."""
        if not self.recipe.stabilizer.unrolled_steps:
            return lambda images: self.discriminator(images, labels, kind.phase)

        def loss_of(ahead: Callable[..., Tensor]) -> Tensor:
            real_logits, fake_logits = (ahead(self._seen(images, kind), labels, kind.phase) for images in (real, fake))
            mismatched_logits = self._mismatched(ahead, real, labels, kind)
            return self._discriminator_loss(real_logits, fake_logits, mismatched_logits)

        steps = self.recipe.stabilizer.unrolled_steps
        parameters = unrolled(self.discriminator, self.discriminator_optimizer, loss_of, steps)
        return lambda images: functional_call(self.discriminator, parameters, (images, labels, kind.phase))

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

    def _latents(self) -> Tensor:
        """This process's share of a batch of latents."""
        size = (self.recipe.optimizer.batch, self.recipe.network.latent_size)
        return torch.randn(size, generator=self.latent_source, device=self.device)[self.share]

    def _seen(self, images: Tensor, kind: Kind) -> Tensor:
        """Pictures as the discriminator sees them: augmented, and under noise, real ones and generated ones alike."""
        if policy := self.recipe.stabilizer.diff_augment:
            images = augment.diff_augment(images, policy)
        return augment.input_noise(images, kind.input_noise)

    @torch.no_grad()
    def pictures(self, n: int, seed: int = 0) -> np.ndarray:
        """Pictures of the average at addresses (seed, 0 .. n-1) -> (n, r, r, C) uint8; classes in turn."""
        phase = phase_at(self.recipe, self.images_seen)
        parts = []
        for start in range(0, n, SAMPLING_BATCH):
            addresses = address_range(seed, start, min(SAMPLING_BATCH, n - start))
            z = torch.from_numpy(latents(addresses, self.recipe.network.latent_size)).to(self.device)
            if self.classes:
                pictures = self.average(z, torch.arange(start, start + len(z), device=self.device) % len(self.classes))
            elif phase:
                ws = self.average.mapping(z)[:, None, :].expand(-1, self.average.style_layers, -1)
                pictures = self.average.synthesis(ws, phase)
            else:
                pictures = self.average(z)
            parts.append(to_uint8(pictures).permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(parts)

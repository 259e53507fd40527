"""What a recipe would take, without training it: networks layer by layer, work a picture, memory of a training step.

The networks are built, but nothing is computed: they, and a whole step of the `Trainer`, run on fake tensors (see
PyTorch's documentation of torch.compile), which have a shape, a type and a size but no contents.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.flop_counter import FlopCounterMode

from training.datasets.dataset import Dataset, Extent, Source
from training.loop.trainer import Trainer
from training.recipe import Recipe

MIB = 2**20


@dataclass(frozen=True)
class Layer:
    """A module that has no parts, or weights beside its parts."""

    name: str
    kind: str
    shape: tuple[int, ...] | None  # of what it gives, without the batch; None: not in use at the full size
    parameters: int
    multiply_adds: int  # a picture, of products and convolutions


@dataclass(frozen=True)
class Memory:
    """Of a training step in one process, in bytes."""

    weights: int  # of both networks, with their buffers
    gradients: int
    moments: int  # Adam's two of every parameter
    average: int  # of the generator, with its buffers
    activations: int  # the most that is kept for backward passes at any one time


def describe(recipe: Recipe, data: Extent) -> str:
    """Tables for people. Raises RecipeError."""
    trainer = _trainer(recipe, data.channels, data.classes)
    size, batch = recipe.data.resolution, recipe.optimizer.batch
    parts = [f"{recipe.name}: {data.channels} x {size} x {size}, batch {batch}"]
    for name, network, run in _passes(trainer):
        parts.append(f"{name}\n{_table(layers(network, run, batch))}")
    memory = memory_of_a_step(trainer)
    rows = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "Adam's moments": memory.moments,
        "average of the generator": memory.average,
        "kept for backward passes, at most": memory.activations,
        f"data: {data.pictures:,} pictures": data.pictures * data.channels * size**2,
    }
    rows["total"] = sum(rows.values())
    lines = [f"{name:<34}{value / MIB:>12,.1f} MiB" for name, value in rows.items()]
    parts.append("\n".join(["Memory of a training step, without workspace of the kernels", *lines]))
    return "\n\n".join(parts)


def layers(network: nn.Module, run: Callable[[], Tensor], batch: int) -> list[Layer]:
    """The layers in the order in which `run`, a pass of `batch` pictures through the network, comes to their ends.

    Those that it does not come to follow.
    """
    shapes: dict[nn.Module, tuple[int, ...]] = {}
    flops: Counter[nn.Module] = Counter()
    open_calls: list[int] = []  # FLOPs counted until a call began, and those of its inner calls

    with _fake(), FlopCounterMode(display=False) as counter:

        def begin(module: nn.Module, arguments: Any) -> None:
            open_calls.append(counter.get_total_flops())

        def end(module: nn.Module, arguments: Any, output: Tensor) -> None:
            inclusive = counter.get_total_flops() - open_calls.pop()
            open_calls[:] = [begun + inclusive for begun in open_calls]  # so that these are not an outer call's own
            shapes[module] = tuple(output.shape[1:])
            flops[module] += inclusive

        modules = {module: name for name, module in network.named_modules() if "parametrizations" not in name}
        hooks = [m.register_forward_pre_hook(begin) for m in modules] + [m.register_forward_hook(end) for m in modules]
        run()
        for hook in hooks:
            hook.remove()

    return [
        Layer(modules[m], type(m).__name__, shapes.get(m), _own_parameters(m), flops[m] // (2 * batch))
        for m in dict.fromkeys([*shapes, *modules])
        if _own_parameters(m) or not _parts(m)
    ]


def memory_of_a_step(trainer: Trainer) -> Memory:
    """Runs a step of the trainer on fake tensors; the trainer is not to be used after."""
    networks = (trainer.generator, trainer.discriminator)
    parameters = sum(p.nbytes for network in networks for p in network.parameters())
    resident = [tensor for network in networks for tensor in network.state_dict().values()]
    for optimizer in (trainer.generator_optimizer, trainer.discriminator_optimizer):
        for group in optimizer.param_groups:
            group["fused"] = True  # the other ways to step read the count of steps, and a fake tensor has no value
    mode = _fake()
    fakes = [mode.from_tensor(tensor) for tensor in resident]  # whose storage a transposed weight's is in the step
    kept = _Kept({StorageWeakRef(tensor.untyped_storage()) for tensor in [*resident, *fakes]})
    with mode, torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack):
        trainer.step()
    return Memory(
        weights=sum(tensor.nbytes for tensor in resident),
        gradients=parameters,
        moments=2 * parameters,
        average=sum(tensor.nbytes for tensor in trainer.average.state_dict().values()),
        activations=kept.most,
    )


class _Kept:
    """Hooks that count the bytes kept for backward passes: every storage once, and those of the networks never."""

    def __init__(self, networks: set[StorageWeakRef]):
        self.networks = networks
        self.holders: Counter[StorageWeakRef] = Counter()
        self.now = self.most = 0

    def pack(self, tensor: Tensor) -> "_Held":
        held = _Held(self, tensor)
        if held.key not in self.networks:
            if not self.holders[held.key]:
                self.now += tensor.untyped_storage().nbytes()
                self.most = max(self.most, self.now)
            self.holders[held.key] += 1
        return held

    def unpack(self, held: "_Held") -> Tensor:
        return held.tensor

    def release(self, held: "_Held") -> None:
        if held.key not in self.networks:
            self.holders[held.key] -= 1
            if not self.holders[held.key]:
                self.now -= held.tensor.untyped_storage().nbytes()


class _Held:
    """A tensor in the graph of a backward pass, as long as the graph has it."""

    def __init__(self, kept: _Kept, tensor: Tensor):
        self.kept, self.tensor, self.key = kept, tensor, StorageWeakRef(tensor.untyped_storage())

    def __del__(self) -> None:
        self.kept.release(self)


def _fake() -> Any:
    """Everything computed under it is fake; a real tensor, such as a weight, is taken for one and not written to."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # brings a second of imports

    return FakeTensorMode(allow_non_fake_inputs=True)


def _trainer(recipe: Recipe, channels: int, classes: int | None) -> Trainer:
    """At the end of the run, where growing networks are whole; at step 0, where every lazy penalty is due."""
    n, size = recipe.optimizer.batch, recipe.data.resolution
    dataset = Dataset(
        images=torch.zeros(n, channels, size, size, dtype=torch.uint8),
        labels=torch.zeros(n, dtype=torch.int64) if classes else None,
        classes=tuple(map(str, range(classes))) if classes else None,
        source=Source("", "", ""),
    )
    trainer = Trainer(recipe, dataset, torch.device("cpu"))
    trainer.images_seen = round(recipe.total_kimg * 1000)
    return trainer


def _passes(trainer: Trainer) -> list[tuple[str, nn.Module, Callable[[], Tensor]]]:
    """A name, the network, and a pass of a batch through it, for each of the two."""
    n, labels = trainer.recipe.optimizer.batch, trainer.labels
    z = torch.zeros(n, trainer.recipe.network.latent_size)
    images = trainer.images.float()
    return [
        ("Generator", trainer.generator, lambda: trainer.generator.fakes(z, labels, None, 0.0)),
        ("Discriminator", trainer.discriminator, lambda: trainer.discriminator(images, labels, None)),
    ]


def _parts(module: nn.Module) -> list[str]:
    """Names of the modules it is made of; what computes a weight of it (spectral norm) is no part."""
    return [name for name, _ in module.named_children() if name != "parametrizations"]


def _own_parameters(module: nn.Module) -> int:
    """How many it has beside those of its parts."""
    return sum(
        p.numel() for name, p in module.named_parameters() if "." not in name or name.startswith("parametrizations.")
    )


def _table(rows: list[Layer]) -> str:
    names = max(len(row.name) for row in rows)
    kinds = max(len(row.kind) for row in rows)
    lines = [f"{'layer':<{names}}  {'kind':<{kinds}}  {'output':>14}  {'parameters':>12}  {'multiply-adds':>15}"]
    for row in rows:
        shape = " x ".join(map(str, row.shape)) if row.shape is not None else "not in use"
        lines.append(
            f"{row.name:<{names}}  {row.kind:<{kinds}}  {shape:>14}  {row.parameters:>12,}  {row.multiply_adds:>15,}"
        )
    parameters, multiply_adds = sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)
    lines.append(f"{'total':<{names}}  {'':<{kinds}}  {'':>14}  {parameters:>12,}  {multiply_adds:>15,}")
    return "\n".join(lines)

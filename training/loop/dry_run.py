"""`train --dry-run`: the networks layer by layer, their multiply-adds, and the memory of one real step."""

import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from training.datasets.dataset import Dataset, Extent, Source
from training.loop.trainer import Trainer
from training.recipe import Recipe

MIB = 2**20


class Layer(NamedTuple):
    """A module without children, or with weights beside those of its children."""

    name: str
    kind: str
    shape: tuple[int, ...] | None  # of its output, without the batch; None: not in use at the full size
    parameters: int
    multiply_adds: int  # of products and convolutions, for one image


def describe(recipe: Recipe, data: Extent, device: torch.device) -> str:
    """Return tables for people. Raises RecipeError."""
    trainer = stand_in(recipe, data.channels, data.classes, device)
    size, batch = recipe.data.resolution, recipe.optimizer.batch
    peak = peak_memory_of_a_step(trainer)
    networks = (trainer.generator, trainer.discriminator)
    parameters = sum(p.nbytes for network in networks for p in network.parameters())
    images = data.pictures * data.channels * size**2
    rows = {
        "weights and buffers": sum(t.nbytes for network in networks for t in network.state_dict().values()),
        "gradients": parameters,
        "Adam's moments": 2 * parameters,
        "average of the generator": sum(t.nbytes for t in trainer.average.state_dict().values()),
        f"peak of one step on {device.type}, measured": peak,
        f"data: {data.pictures:,} images": images,
        "total: the peak and the data": peak + images,
    }
    tables = [f"{name}\n{_table(layers(network, run, batch))}" for name, network, run in passes(trainer)]
    whole = "the whole process" if device.type == "cpu" else "tensors"
    memory = [f"Memory (the peak is of {whole})", *(f"{k:<34}{v / MIB:>12,.1f} MiB" for k, v in rows.items())]
    heading = f"{recipe.name}: {data.channels} x {size} x {size}, batch {batch}"
    return "\n\n".join([heading, *tables, "\n".join(memory)])


def stand_in(recipe: Recipe, channels: int, classes: int | None, device: torch.device) -> Trainer:
    """A trainer on one batch of black images: at the end of the run, where growing networks are whole, and at step 0,
    where every lazy penalty is due."""
    n, size = recipe.optimizer.batch, recipe.data.resolution
    dataset = Dataset(
        images=torch.zeros(n, channels, size, size, dtype=torch.uint8),
        labels=torch.zeros(n, dtype=torch.int64) if classes else None,
        classes=tuple(map(str, range(classes))) if classes else None,
        source=Source("", "", ""),
    )
    trainer = Trainer(recipe, dataset, device)
    trainer.load_state_dict(trainer.state_dict() | {"images_seen": round(recipe.total_kimg * 1000)})
    return trainer


def peak_memory_of_a_step(trainer: Trainer) -> int:
    """Runs one step -> the most bytes in use: of tensors on CUDA, of the whole process so far on a CPU."""
    trainer.step()
    if trainer.device.type == "cuda":
        return torch.cuda.max_memory_allocated(trainer.device)
    status = Path("/proc/self/status")
    if status.exists():  # on Linux ru_maxrss begins with the peak of the process that started this one
        return 1024 * int(re.findall(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.M)[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def passes(trainer: Trainer) -> list[tuple[str, nn.Module, Callable[[], Tensor]]]:
    """A name, the network, and a pass of a batch through it, for each of the two."""
    n, labels = trainer.recipe.optimizer.batch, trainer.labels
    z = torch.zeros(n, trainer.recipe.network.latent_size, device=trainer.device)
    images = trainer.images.float()
    return [
        ("Generator", trainer.generator, lambda: trainer.generator.fakes(z, labels, 0.0)),
        ("Discriminator", trainer.discriminator, lambda: trainer.discriminator(images, labels)),
    ]


def layers(network: nn.Module, run: Callable[[], Tensor], batch: int) -> list[Layer]:
    """Return the layers in the order in which `run`, a pass of `batch` images, leaves them; then those not in use."""
    shapes: dict[str, tuple[int, ...]] = {}
    modules = {name: module for name, module in network.named_modules() if "parametrizations" not in name}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda module, inputs, output: shapes.update({name: tuple(output.shape[1:])})

    hooks = [module.register_forward_hook(note(name)) for name, module in modules.items()]
    network.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        run()
    for hook in hooks:
        hook.remove()
    root = type(network).__name__
    counted = {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}

    def flops(name: str) -> int:
        """Of a module with its children; the counter names it by its path below the network's class."""
        return counted.get(f"{root}.{name}" if name else root, 0)

    found = []
    for name in dict.fromkeys([*shapes, *modules]):
        module = modules[name]
        children = [child for child, _ in module.named_children() if child != "parametrizations"]
        parameters = sum(
            p.numel() for n, p in module.named_parameters() if "." not in n or n.startswith("parametrizations.")
        )
        if parameters or not children:
            own = flops(name) - sum(flops(f"{name}.{child}".lstrip(".")) for child in children)
            found.append(Layer(name, type(module).__name__, shapes.get(name), parameters, own // (2 * batch)))
    return found


def _table(rows: list[Layer]) -> str:
    names = max(len(row.name) for row in rows)
    kinds = max(len(row.kind) for row in rows)
    lines = [f"{'layer':<{names}}  {'kind':<{kinds}}  {'output':>14}  {'parameters':>12}  {'multiply-adds':>15}"]
    total = Layer("total", "", (), sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows))
    for row in (*rows, total):
        shape = " x ".join(map(str, row.shape)) if row.shape is not None else "not in use"
        lines.append(
            f"{row.name:<{names}}  {row.kind:<{kinds}}  {shape:>14}  {row.parameters:>12,}  {row.multiply_adds:>15,}"
        )
    return "\n".join(lines)

"""One run over several processes, on one machine or many, through Lightning Fabric.

Every process holds the whole networks and its share of each batch: gradients are averaged after each backward pass, so
the weights stay the same everywhere. Latents and the data order are drawn for the whole batch and then shared out, so
that as many images, of the same latents, are seen however many processes there are. Statistics over a batch (batch
normalisation, minibatch deviation) are of a process's share.
"""

import atexit
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from training.errors import RecipeError, TrainingError, refused_by_disk

T = TypeVar("T")


class Processes:
    """The processes of a run; without Fabric there is this one alone."""

    def __init__(self, fabric: Any = None):
        self.fabric = fabric  # lightning.Fabric
        self.count: int = fabric.world_size if fabric else 1
        self.rank: int = fabric.global_rank if fabric else 0

    @property
    def first(self) -> bool:
        """Whether this is the one that logs, measures and saves."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """This process's part of a batch. Raises RecipeError where it cannot be shared out evenly."""
        if batch % self.count or batch // self.count < 2:
            raise RecipeError(
                f"`optimizer.batch` (={batch}) must be a multiple of the {self.count} processes, at least 2 for each."
            )
        size = batch // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces every gradient by its mean over the processes, in one message."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = self.average(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def average(self, tensor: Tensor) -> Tensor:
        """The mean over the processes."""
        return self.fabric.all_reduce(tensor, reduce_op="mean") if self.count > 1 else tensor

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process: how they agree on when to save and to stop."""
        return bool(self.fabric.all_reduce(torch.tensor(float(flag)), reduce_op="sum")) if self.count > 1 else flag

    def in_turn(self) -> AbstractContextManager[None]:
        """What it holds is done by the first process of each machine, and then by the others."""
        return self.fabric.rank_zero_first(local=True) if self.count > 1 else nullcontext()

    def first_does(self, action: Callable[[], T]) -> T | None:
        """The first process's result, None in the others; where it cannot, all of them raise."""
        result, error = None, None
        if self.first:
            try:
                result = action()
            except (TrainingError, OSError) as failure:
                error = failure
        if said := self.same(error and (refused_by_disk(error) if isinstance(error, OSError) else str(error))):
            raise TrainingError(said) from error
        return result

    def same(self, value: Any) -> Any:
        """The first process's value, in every process."""
        return self.fabric.broadcast(value) if self.count > 1 else value

    def gather(self, value: dict[str, Any]) -> list[dict[str, Any]]:
        """The value of every process, in the order of their ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values


def launch(device: torch.device, devices: int | None) -> tuple[Processes, torch.device]:
    """Starts, or joins, the processes of a run -> them, and the device of this one. Raises TrainingError.

    `devices` processes are started on this machine (`--devices 2`); under `torchrun` or `fabric run` they are there
    already and are joined. Otherwise this process is alone and Fabric is not needed.
    """
    if os.environ.get("LT_CLI_USED") == "1":
        options = {}  # `fabric run` has said it all
    elif "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // local
        options = {"accelerator": device.type, "devices": local, "num_nodes": nodes, "strategy": "ddp"}
    elif devices is not None and devices > 1:
        options = {"accelerator": device.type, "devices": devices, "strategy": "ddp"}
    else:
        return Processes(), device
    try:
        from lightning.fabric import Fabric
    except ModuleNotFoundError as error:
        raise TrainingError("several processes need the package `lightning`: install `ganymede[train]`.") from error
    try:
        fabric = Fabric(**options)
        if options:
            fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"`--devices` (={devices}): {error}") from error
    atexit.register(_leave)
    return Processes(fabric), fabric.device


def _leave() -> None:
    """Ends the process group while the interpreter still stands: left to its end, gloo's threads at times abort it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()

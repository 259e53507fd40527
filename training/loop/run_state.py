"""What a run leaves: the snapshot that an export needs, and all that is needed to go on as if nothing had happened."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.errors import DataError, TrainingError
from training.loop import checkpoint
from training.loop.trainer import Trainer
from training.recipe import Recipe, from_dict

NETWORKS = ("generator", "discriminator", "average")
OPTIMIZERS = ("generator_optimizer", "discriminator_optimizer")


def snapshot(trainer: Trainer) -> dict[str, Any]:
    """What an export needs: the averaged generator, and where it came from."""
    return {
        "recipe": trainer.recipe.as_dict(),
        "images_seen": trainer.images_seen,
        "seconds": trainer.seconds,
        "device": trainer.where,
        "git_revision": trainer.git_revision,
        "channels": trainer.dataset.channels,
        "classes": _classes(trainer),
        "source": vars(trainer.dataset.source),
        "average": trainer.average.state_dict(),
    }


def capture(trainer: Trainer) -> dict[str, Any]:
    """All that a run needs to go on: a snapshot and the rest. Every process must call it."""
    random = _random_states(trainer.device)
    return snapshot(trainer) | {
        "steps": trainer.steps,
        **{name: getattr(trainer, name).state_dict() for name in (*NETWORKS, *OPTIMIZERS)},
        "path_length_mean": trainer.path_length_mean,
        "latent_source": trainer.latent_source.get_state(),
        "pictures": len(trainer.dataset),
        "random": trainer.processes.gather(random),  # of each process
    }


def restore(trainer: Trainer, state: dict[str, Any]) -> bool:
    """Goes on from what `capture` gave -> whether as the run that gave it would have gone on.

    With another number of processes or on another kind of device, what is drawn begins anew. Raises DataError where
    the pictures are others.
    """
    _check_data(trainer, state)
    for name in (*NETWORKS, *OPTIMIZERS):
        getattr(trainer, name).load_state_dict(state[name])
    for name in ("images_seen", "steps", "seconds", "git_revision"):
        setattr(trainer, name, state[name])
    trainer.record_steps()  # the optimisers' state lies elsewhere now
    trainer.path_length_mean.copy_(state["path_length_mean"])
    random = state["random"]
    if len(random) == trainer.processes.count and ("cuda" in random[0]) == (trainer.device.type == "cuda"):
        trainer.latent_source.set_state(state["latent_source"].cpu())
        restore_random_states(random[trainer.processes.rank], trainer.device)
        return True
    trainer.latent_source.manual_seed(trainer.recipe.seed + trainer.images_seen)
    torch.manual_seed(trainer.recipe.seed + trainer.images_seen + trainer.processes.rank)
    return False


def read(path: Path) -> tuple[Recipe, dict[str, Any]]:
    """The recipe and the state in a checkpoint or snapshot. Raises TrainingError where it is not of a run."""
    state = checkpoint.load(path)
    if "recipe" not in state:
        raise TrainingError(f"{path} is no checkpoint of a run: it holds no recipe.")
    return from_dict(state["recipe"]), state


def restore_random_states(states: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    if device.type == "cuda":
        state = states["cuda"]
        if isinstance(state, list):  # an older checkpoint, with those of all devices
            state = state[device.index or 0]
        torch.cuda.set_rng_state(state.cpu(), device)


def _random_states(device: torch.device) -> dict[str, Tensor]:
    """Those of torch's default generators, of the CPU and of `device`."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _check_data(trainer: Trainer, state: dict[str, Any]) -> None:
    known = {
        "pictures": len(trainer.dataset),
        "channels": trainer.dataset.channels,
        "classes": _classes(trainer),
    }
    for name, value in known.items():
        if state.get(name, value) != value:  # older checkpoints do not say how many pictures there were
            raise DataError(f"the run began with other data: its {name} were {state[name]}, and here are {value}.")


def _classes(trainer: Trainer) -> list[str] | None:
    return list(trainer.classes) if trainer.classes else None

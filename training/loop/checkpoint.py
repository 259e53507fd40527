"""Files of tensors and plain values, written whole: checkpoints and snapshots of runs, and other networks.

A checkpoint is the trainer's `state_dict`, that of the signs of collapse, and its provenance: recipe, device and data.
A snapshot holds the averaged generator and what its export needs.
"""

from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from training import files
from training.errors import DataError, TrainingError
from training.loop.schedule import Schedule
from training.loop.trainer import Trainer
from training.recipe import Recipe, from_dict

CHANGEABLE = {"pictures": "images", "content": "images' and labels' sha256"}  # without a change of the networks


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes a file whole or not at all. Raises OSError."""
    content = BytesIO()  # torch's own writer hides why a disk refused
    torch.save(state, content)
    with files.whole(path) as file:
        file.write(content.getbuffer())


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Tensors and plain values only: no code is run from a checkpoint. Raises TrainingError where it is none."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises whatever its readers meet
        raise TrainingError(f"{path} is no checkpoint, or a broken one: torch cannot read it.") from error


def read_run(path: Path) -> tuple[Recipe, dict[str, Any]]:
    """The recipe and the state in a checkpoint or snapshot. Raises TrainingError where it is not of a run."""
    state = load(path)
    if "recipe" not in state:
        raise TrainingError(f"{path} is no checkpoint of a run: it holds no recipe.")
    recipe = from_dict(state["recipe"])
    # Files of before the schedule was state: it was the recipe's, and "watch" was the name of "collapse".
    return recipe, {"schedule": Schedule.of(recipe)._asdict(), "collapse": state.get("watch")} | state


def snapshot(trainer: Trainer) -> dict[str, Any]:
    """The averaged generator, and what its export says of it."""
    return _provenance(trainer) | {
        "images_seen": trainer.images_seen,
        "seconds": trainer.seconds,
        "schedule": trainer.schedule._asdict(),
        "git_revision": trainer.git_revision,
        "average": trainer.average.state_dict(),
    }


def capture(trainer: Trainer) -> dict[str, Any]:
    """All that a run needs to continue. Every process must call it."""
    folder = trainer.dataset.folder
    return _provenance(trainer) | trainer.state_dict() | {"data": None if folder is None else str(folder)}


def restore(trainer: Trainer, state: dict[str, Any], *, changed_data: bool = False) -> bool:
    """Continues from what `capture` gave -> what `Trainer.load_state_dict` says.

    Raises DataError for other data; `changed_data` allows another number of images and other content. Files of before
    do not say what their content was.
    """
    provenance = _provenance(trainer)
    for name, what in (("channels", "channels"), ("classes", "classes"), *CHANGEABLE.items()):
        if state.get(name, provenance[name]) == provenance[name] or (changed_data and name in CHANGEABLE):
            continue
        remedy = " Give `--data`, or `--changed-data` to train on with these." if name in CHANGEABLE else ""
        raise DataError(
            f"the run began with other data: its {what} were {state[name]}, and here are {provenance[name]}.{remedy}"
        )
    return trainer.load_state_dict(state)


def _provenance(trainer: Trainer) -> dict[str, Any]:
    dataset = trainer.dataset
    return {
        "recipe": trainer.recipe.as_dict(),
        "device": trainer.where,
        "pictures": len(dataset),
        "channels": dataset.channels,
        "classes": list(trainer.classes) if trainer.classes else None,
        "content": dataset.sha256,
        "source": vars(dataset.source),
    }

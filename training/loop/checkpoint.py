"""A file of tensors and plain values, written whole: a run's checkpoint, a snapshot, a network that was trained."""

import os
from pathlib import Path
from typing import Any

import torch

from training.errors import TrainingError


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes beside `path`, flushes to the disk and renames: a reader finds the old file or the new one, never half."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Tensors and plain values only: no code is run from a checkpoint. Raises TrainingError where it is none."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises whatever its readers meet
        raise TrainingError(f"{path} is no checkpoint, or a broken one: torch cannot read it.") from error

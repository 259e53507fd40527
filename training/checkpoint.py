"""The checkpoint: everything that is needed to go on as if nothing had happened, in one file written whole."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Those of torch's default generators, of the CPU and of `device`."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(states: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    if device.type == "cuda":
        state = states["cuda"]
        if isinstance(state, list):  # an older checkpoint, with those of all devices
            state = state[device.index or 0]
        torch.cuda.set_rng_state(state.cpu(), device)

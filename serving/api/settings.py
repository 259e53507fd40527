"""All settings, from the environment.

GANYMEDE_MODELS     the model repository; `models` beside the `serving` package unless set
GANYMEDE_WORKERS    processes that answer requests; 1 unless set
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import serving

DEFAULT_MODELS = Path(serving.__file__).parent.parent / "models"  # in a checkout and in a bento alike


@dataclass(frozen=True)
class Settings:
    models: Path
    workers: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Raises ValueError where a variable holds what it cannot."""
        workers = environment.get("GANYMEDE_WORKERS", "1")
        if not (workers.isascii() and workers.isdigit() and 1 <= int(workers) <= 256):
            raise ValueError(f"`GANYMEDE_WORKERS` (={workers}) must be a number of processes between 1 and 256.")
        return cls(models=Path(environment.get("GANYMEDE_MODELS", DEFAULT_MODELS)), workers=int(workers))

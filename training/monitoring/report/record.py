"""What a run folder holds, read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import TrainingError
from training.monitoring.statistics import read_lines


@dataclass(frozen=True)
class Record:
    name: str  # of the folder
    options: dict[str, Any]  # the recipe
    stats: list[dict[str, float]]  # a tick each, at least one
    alarms: list[dict[str, Any]]  # kimg, name, reason
    grids: list[tuple[float, Path]]  # kimg and image, oldest first

    @property
    def last(self) -> dict[str, float]:
        return self.stats[-1]

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """kimg and values, where a statistic was recorded."""
        lines = [line for line in self.stats if key in line]
        return [line["kimg"] for line in lines], [line[key] for line in lines]


def read(run: Path) -> Record:
    """Raises TrainingError where there is no run, or none that has come to its first line of statistics."""
    options = run / "options.json"
    if not options.is_file():
        raise TrainingError(f"{run} is no run folder: it holds no options.json, which `train` writes at the start.")
    stats = read_lines(run / "stats.jsonl")
    if not stats:
        raise TrainingError(f"{run} holds no statistics yet (stats.jsonl): the run has not come to its first tick.")
    for line in stats:
        if "real_logit" in line:
            line["logit_gap"] = line["real_logit"] - line["fake_logit"]
    return Record(
        name=run.resolve().name,
        options=json.loads(options.read_text()),
        stats=stats,
        alarms=read_lines(run / "alarms.jsonl"),
        grids=[(float(path.stem), path) for path in sorted((run / "samples").glob("*.png"))],
    )

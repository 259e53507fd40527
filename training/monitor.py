"""What a run shows of itself: its folder, statistics as JSON lines, a progress bar and grids of fixed latents."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from serving.engine import images
from training.recipe import Recipe


def new_run(runs: Path, recipe: Recipe) -> Path:
    """Makes `runs/NNNNN-<id>`, numbered after the last one, with the recipe as options.json."""
    runs.mkdir(parents=True, exist_ok=True)
    numbers = [int(match[0]) for path in runs.iterdir() if (match := re.match(r"\d{5}(?=-)", path.name))]
    folder = runs / f"{max(numbers, default=-1) + 1:05d}-{recipe.id}"
    folder.mkdir()
    (folder / "samples").mkdir()
    (folder / "snapshots").mkdir()
    (folder / "options.json").write_text(json.dumps(recipe.as_dict(), indent=2) + "\n")
    return folder


class Monitor:
    """Writes `stats.jsonl`, `samples/*.png` and the bar. On a terminal the bar moves; in a file each tick is a line."""

    def __init__(self, folder: Path, total_kimg: float, kimg: float):
        self.folder = folder
        self.stats = folder / "stats.jsonl"
        self._forget_after(kimg)
        self.bar = tqdm(
            total=total_kimg,
            initial=kimg,
            unit="kimg",
            disable=not sys.stderr.isatty(),
            bar_format="{percentage:3.0f}%|{bar:20}| {n:.1f}/{total:g} kimg [{elapsed}<{remaining}, {postfix}]",
        )

    def _forget_after(self, kimg: float) -> None:
        """Drops statistics of a time that a resumed run is about to live again."""
        if self.stats.exists():
            kept = [line for line in self.stats.read_text().splitlines() if json.loads(line)["kimg"] <= kimg]
            self.stats.write_text("".join(line + "\n" for line in kept))

    def tick(self, values: dict[str, Any]) -> None:
        """Records one line of statistics; `values` must have `kimg` and `kimg_per_second`."""
        with self.stats.open("a") as file:
            file.write(json.dumps(values) + "\n")
        names = {
            "kimg_per_second": "kimg/s",
            "discriminator_loss": "D loss",
            "generator_loss": "G loss",
            "real_probability": "D(real)",
            "fake_probability": "D(fake)",
            "resolution": "px",
        }
        shown = ", ".join(f"{label} {values[name]:.3g}" for name, label in names.items() if name in values)
        self.bar.set_postfix_str(shown, refresh=False)
        self.bar.update(values["kimg"] - self.bar.n)
        if self.bar.disable:
            left = (self.bar.total - values["kimg"]) / max(values["kimg_per_second"], 1e-9)
            print(f"{values['kimg']:.1f}/{self.bar.total:g} kimg, {left / 60:.0f} min left, {shown}", flush=True)

    def grid(self, pictures: np.ndarray, kimg: float, columns: int) -> Path:
        """pictures (N, H, W, C) uint8 -> samples/<kimg>.png."""
        path = self.folder / "samples" / f"{kimg:08.1f}.png"
        path.write_bytes(images.png(images.grid(pictures, columns)))
        return path

    def close(self) -> None:
        self.bar.close()

"""The images of a model card, made from the model's folder: its files, model.json's addresses, the run's record."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from serving.engine import generation, images
from serving.engine.directions import Edit
from serving.engine.latents import Address, address_range
from serving.engine.runtime import Runtime
from training import files
from training.monitoring.report import curves
from training.monitoring.report.record import Record
from training.monitoring.statistics import read_lines
from training.monitoring.timelapse import spread

SIDE = 128  # pixels of an image that is shown: smaller ones are doubled, and larger ones reduced by a box filter
MOST_CLASSES = 16  # that have a column each
LARGE = 512  # pixels: from here on one image takes seconds, and half as many rows and columns are shown
GAP = 16  # white pixels between two grids
STRIPS, FRAMES = 4, 10
SOURCES = 4  # rows and columns of a mixing grid ...
STYLES: tuple[Literal["coarse", "middle", "fine"], ...] = ("coarse", "middle", "fine")  # ... of which there is one each
TRUNCATED = 8
MOVED = 2  # addresses in each strip of a direction
STRENGTHS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
SEFA = 6  # directions without a name that are shown
PSIS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
CURVES = ("fid", "probabilities", "losses")  # those of them that were recorded
POINTS = 120
RECORD = "training.jsonl"  # of the run's statistics as many lines as a curve shows


def draw(runtime: Runtime) -> None:
    """Writes into the model's folder every image that can be made from it; others there are stay as they are."""
    model = runtime.model
    made = {"samples.png": sample_grid(runtime), "interpolation.png": interpolations(runtime)}
    if model.style:
        made |= {"mixing.png": mixing_grids(runtime), "truncation.png": truncations(runtime)}
    if shown := shown_directions(model.directions):
        made["directions.png"] = direction_strips(runtime, shown)
    for metric in model.document["metrics"]:
        if "shown" in metric:
            made[metric["picture"]] = _addressed(runtime, metric["shown"])
    for name, picture in made.items():
        files.write_png(model.folder / name, picture)
    if stats := read_lines(model.folder / RECORD):
        record = Record(model.id, model.document["training"]["recipe"], stats, alarms=[], grids=[])
        files.write(model.folder / "training.png", curves.together(record, CURVES))


def sample_grid(runtime: Runtime) -> np.ndarray:
    """The first images of seed 0: eight by eight, or ten of each class in columns."""
    model = runtime.model
    rows, columns = samples_shape(model.image.height, model.classes)
    n = rows * columns
    z = model.latents(address_range(0, 0, n))
    return _grid(runtime.generate(z, _in_turn(runtime, n)), columns)


def interpolations(runtime: Runtime) -> np.ndarray:
    """Strips, each from one address of seed 0 to the next: in w where there is one, within a class where there are."""
    strips = []
    for k in range(fewer(runtime.model.image.height, STRIPS)):
        plan = generation.interpolate(
            runtime,
            keyframes=address_range(0, 2 * k, 2),
            frames=FRAMES,
            space="w" if runtime.model.style else "z",
            labels=k % len(runtime.model.classes) if runtime.model.classes else None,
        )
        strips.append(runtime.synthesize(plan.inputs))
    return _grid(np.concatenate(strips), FRAMES)


def mixing_grids(runtime: Runtime) -> np.ndarray:
    """The figure of Karras et al. (2019) for coarse, middle and fine styles, side by side."""
    grids, n = [], fewer(runtime.model.image.height, SOURCES)
    for styles in STYLES:
        plan = generation.style_mix(
            runtime, rows=address_range(0, 0, n), columns=address_range(0, n, n), styles=styles, labels=_first(runtime)
        )
        assert plan.sources is not None
        mixes, sources = (_sized(runtime.synthesize(each.inputs)) for each in (plan, plan.sources))
        grids.append(images.mix_grid(mixes, sources[:n], sources[n:]))
    gap = np.full((grids[0].shape[0], GAP, grids[0].shape[2]), images.WHITE, np.uint8)
    return np.concatenate([grids[0], gap, grids[1], gap, grids[2]], axis=1)


def truncations(runtime: Runtime) -> np.ndarray:
    """One row an address of seed 0, one column a psi of PSIS (Karras et al. 2019, figure 8)."""
    n = fewer(runtime.model.image.height, TRUNCATED)
    z, labels = runtime.model.latents(address_range(0, 0, n)), _in_turn(runtime, n)
    columns = [runtime.generate(z, labels, np.full(1, psi, np.float32)) for psi in PSIS]
    return _grid(np.concatenate(columns), n)


def shown_directions(names: Iterable[str]) -> list[str]:
    """Those that a card shows: the first over all layers, of SeFa."""
    return [name for name in names if name.startswith("sefa-") and name.removeprefix("sefa-").isdecimal()][:SEFA]


def direction_strips(runtime: Runtime, names: Sequence[str]) -> np.ndarray:
    """For each direction a row of the first address of seed 0, moved by STRENGTHS, and beside it the second."""
    rows = []
    for name in names:
        for index in range(MOVED):
            for strength in STRENGTHS:
                plan = generation.sample(runtime, seed=0, start=index, edits=[Edit(name, strength)])
                rows.append(runtime.synthesize(plan.inputs))
    return _grid(np.concatenate(rows), MOVED * len(STRENGTHS))


def keep_record(run: Path, folder: Path) -> None:
    """Writes what a run's curves need into a model's folder: some of its lines, and all that have an FID."""
    stats = read_lines(run / "stats.jsonl")
    if not stats:
        return
    keys = {
        "kimg",
        "seconds",
        *(key for figure in curves.FIGURES if figure.name in CURVES for key in figure.keys.values()),
    }
    chosen = {line["kimg"]: line for line in [*spread(stats, POINTS), *(line for line in stats if "fid" in line)]}
    lines = [{key: _rounded(line[key]) for key in line if key in keys} for _, line in sorted(chosen.items())]
    files.write(folder / RECORD, "".join(json.dumps(line) + "\n" for line in lines))


def _addressed(runtime: Runtime, shown: list[dict[str, Any]]) -> np.ndarray:
    """The images that a metric shows, each an address (seed, index) and perhaps a label, in two rows."""
    z = runtime.model.latents([Address(*each["address"]) for each in shown])
    labels = [each["label"] for each in shown] if runtime.model.classes else None
    return _grid(runtime.generate(z, labels), -(-len(shown) // 2))


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _grid(pictures: np.ndarray, columns: int) -> np.ndarray:
    return images.grid(_sized(pictures), columns)


def _sized(pictures: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) at twice their size, or reduced so far that neither side exceeds SIDE."""
    n, height, width, channels = pictures.shape
    factor = -(-max(height, width) // SIDE)
    if factor == 1:
        return images.enlarge(pictures, 2 if 2 * max(height, width) <= SIDE else 1)
    height, width = height // factor, width // factor
    blocks = pictures[:, : height * factor, : width * factor].reshape(n, height, factor, width, factor, channels)
    return blocks.mean(axis=(2, 4)).round().astype(np.uint8)


def fewer(side: int, n: int) -> int:
    """`n` rows or columns, or of large images half as many."""
    return n // 2 if side >= LARGE else n


def samples_shape(side: int, classes: Sequence[str] | None) -> tuple[int, int]:
    """Rows and columns of the grid of samples: a column for each class, where there are few."""
    if classes and len(classes) <= MOST_CLASSES:
        return fewer(side, 10), len(classes)
    return fewer(side, 8), fewer(side, 8)


def _in_turn(runtime: Runtime, n: int) -> np.ndarray | None:
    classes = runtime.model.classes
    return np.arange(n) % len(classes) if classes else None


def _first(runtime: Runtime) -> int | None:
    """The class of a mix: of one class, so that styles alone differ."""
    return 0 if runtime.model.classes else None

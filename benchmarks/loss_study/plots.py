"""The study's pictures. matplotlib is imported where it is needed: training does without it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.loss_study import ring, stacked
from benchmarks.loss_study.settings import Setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Result = dict[str, Any]

COLUMNS = 6
LIMIT = 1.0  # of both axes of a ring
SAMPLE, MODE, BAR = "#1f6f8b", "#d1495b", "#9cc5d3"
DPI = 110


def ring_panels(samples: dict[str, np.ndarray], settings: Sequence[Setting], path: Path) -> None:
    """One panel a setting: its last samples over the true modes. samples[name]: (looks, n, 2)."""
    rows = -(-len(settings) // COLUMNS)
    figure, axes = _grid(rows, COLUMNS, size=1.9)
    for ax, setting in zip(axes.flat, settings, strict=False):
        points = samples[setting.name]
        _ring(ax, points[-1] if len(points) else np.empty((0, 2)))
        ax.set_title(setting.title, fontsize=8)
    for ax in list(axes.flat)[len(settings) :]:
        ax.set_axis_off()
    figure.savefig(path, dpi=DPI)


def ring_over_time(samples: dict[str, np.ndarray], settings: Sequence[Setting], path: Path) -> None:
    """One row a setting, one column a look, as in Metz et al. 2017, figure 2. samples[name]: (looks, n, 2)."""
    looks = max(len(samples[setting.name]) for setting in settings)
    figure, axes = _grid(len(settings), looks, size=1.7)
    for row, setting in zip(axes, settings, strict=True):
        for ax, points in zip(row, samples[setting.name], strict=False):
            _ring(ax, points)
        row[0].set_ylabel(setting.title, fontsize=8)
    for k, ax in enumerate(axes[0], 1):
        ax.set_title(f"{k}/{looks} of the run", fontsize=8)
    figure.savefig(path, dpi=DPI)


def bars(results: Sequence[Result], settings: Sequence[Setting], measures: dict[str, str], path: Path) -> None:
    """A bar a setting for each measure {name: title}, the mean over the seeds, each seed a dot."""
    figure, axes = _figure(1, len(measures), 4.2 * len(measures), 0.27 * len(settings) + 0.9, sharey=True)
    places = np.arange(len(settings))
    for ax, (name, title) in zip(axes[0], measures.items(), strict=True):
        for place, setting in zip(places, settings, strict=True):
            values = [r["looks"][-1][name] for r in results if r["setting"] == setting.name and not r["diverged"]]
            if values:
                ax.barh(place, np.mean(values), color=BAR)
                ax.plot(values, [place] * len(values), ".", color=SAMPLE, markersize=5)
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=8)
        ax.margins(y=0.01)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_yticks(places, [setting.title for setting in settings])
    axes[0, 0].invert_yaxis()
    figure.savefig(path, dpi=DPI)


def picture_panels(samples: dict[str, np.ndarray], settings: Sequence[Setting], path: Path) -> None:
    """One panel a setting: its last pictures, 4 x 4. samples[name]: (looks, 16, 28, 28, 3) uint8."""
    rows = -(-len(settings) // COLUMNS)
    figure, axes = _grid(rows, COLUMNS, size=2.0)
    side = int(stacked.KEPT**0.5)
    for ax, setting in zip(axes.flat, settings, strict=False):
        pictures = samples[setting.name]
        if len(pictures):
            n, height, width, channels = pictures[-1].shape
            tiles = pictures[-1].reshape(side, n // side, height, width, channels).swapaxes(1, 2)
            ax.imshow(tiles.reshape(side * height, -1, channels), interpolation="nearest")
        ax.set_title(setting.title, fontsize=8)
    for ax in list(axes.flat)[len(settings) :]:
        ax.set_axis_off()
    figure.savefig(path, dpi=DPI)


def _ring(ax: "Axes", points: np.ndarray) -> None:
    centres = ring.centres().numpy()
    ax.scatter(centres[:, 0], centres[:, 1], s=60, facecolors="none", edgecolors=MODE, linewidths=0.8)
    ax.scatter(points[:, 0], points[:, 1], s=1.5, color=SAMPLE, alpha=0.5, linewidths=0)
    ax.set_xlim(-LIMIT, LIMIT)
    ax.set_ylim(-LIMIT, LIMIT)
    ax.set_aspect("equal")


def _grid(rows: int, columns: int, size: float) -> tuple["Figure", Any]:
    figure, axes = _figure(rows, columns, size * columns, (size + 0.25) * rows)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    return figure, axes


def _figure(rows: int, columns: int, width: float, height: float, sharey: bool = False) -> tuple["Figure", Any]:
    """Without pyplot, which would choose a display and keep every figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="tight")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)

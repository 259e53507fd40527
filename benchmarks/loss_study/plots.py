"""Plots of the loss study. matplotlib is imported only where it is needed, because training does not install it."""

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
LIMIT = 1.0  # of both axes of a ring panel
SAMPLE, MODE, BAR = "#1f6f8b", "#d1495b", "#9cc5d3"
DPI = 110


def ring_panels(samples: dict[str, np.ndarray], settings: Sequence[Setting], path: Path) -> None:
    """Draw one panel for each setting: its last samples over the true modes. samples[name]: (evaluations, n, 2)."""
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
    """Draw one row for each setting and one column for each evaluation, as in Metz et al. 2017, figure 2.

    samples[name]: (evaluations, n, 2).
    """
    evaluations = max(len(samples[setting.name]) for setting in settings)
    figure, axes = _grid(len(settings), evaluations, size=1.7)
    for row, setting in zip(axes, settings, strict=True):
        for ax, points in zip(row, samples[setting.name], strict=False):
            _ring(ax, points)
        row[0].set_ylabel(setting.title, fontsize=8)
    for k, ax in enumerate(axes[0], 1):
        ax.set_title(f"{k}/{evaluations} of the run", fontsize=8)
    figure.savefig(path, dpi=DPI)


def bars(results: Sequence[Result], settings: Sequence[Setting], metrics: dict[str, str], path: Path) -> None:
    """Draw one bar chart for each metric {name: title}: a bar is the mean over the seeds, a dot is one seed."""
    figure, axes = _figure(1, len(metrics), 4.2 * len(metrics), 0.27 * len(settings) + 0.9, sharey=True)
    places = np.arange(len(settings))
    for ax, (name, title) in zip(axes[0], metrics.items(), strict=True):
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


def image_panels(samples: dict[str, np.ndarray], settings: Sequence[Setting], path: Path) -> None:
    """Draw one panel for each setting: its last 4 x 4 images. samples[name]: (evaluations, 16, 28, 28, 3) uint8."""
    rows = -(-len(settings) // COLUMNS)
    figure, axes = _grid(rows, COLUMNS, size=2.0)
    side = int(stacked.KEPT**0.5)
    for ax, setting in zip(axes.flat, settings, strict=False):
        images = samples[setting.name]
        if len(images):
            n, height, width, channels = images[-1].shape
            tiles = images[-1].reshape(side, n // side, height, width, channels).swapaxes(1, 2)
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
    """Return a figure and its axes without pyplot, which would choose a display and keep every figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="tight")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)

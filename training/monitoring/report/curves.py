"""Statistics over kimg as PNGs, drawn for a light page and for a dark one."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from training.monitoring.report.record import Record

Series = dict[str, tuple[list[float], list[float]]]  # label -> kimg and values


@dataclass(frozen=True)
class Figure:
    """What is drawn together: statistics by their labels. The discriminator and real images come first."""

    name: str
    title: str
    keys: dict[str, str]  # label -> statistic
    log: bool = False  # where the values span more than LOG_FROM
    whole: bool = False  # numbers, shown from 0
    limits: tuple[float, float] | None = None  # of the vertical axis; None: what the values need
    note: str = ""


FIGURES = (
    Figure("losses", "Losses", {"discriminator": "discriminator_loss", "generator": "generator_loss"}),
    Figure(
        "probabilities",
        "D(real) and D(fake)",
        {"real pictures": "real_probability", "generated pictures": "fake_probability"},
        limits=(0, 1),
        note="0.5: it cannot tell them apart.",
    ),
    Figure(
        "logit_gap", "Logit gap", {"gap": "logit_gap"}, note="The logit of real pictures less that of generated ones."
    ),
    Figure(
        "gradient_norms",
        "Gradient norms",
        {"discriminator": "discriminator_gradient_norm", "generator": "generator_gradient_norm"},
        log=True,
    ),
    Figure(
        "penalties",
        "Penalties, before their weights",
        {
            "R1": "r1_penalty",
            "R2": "r2_penalty",
            "WGAN-GP": "wgan_gradient_penalty",
            "path length": "path_length_penalty",
            "feature matching": "feature_matching",
            "mode seeking": "mode_seeking",
        },
        log=True,
    ),
    Figure("fid", "FID", {"FID": "fid"}, note="Of few pictures: for comparing points of this run alone."),
    Figure(
        "pairwise_distance",
        "Distance between samples",
        {"share of real pictures' own": "pairwise_distance"},
        note="1: as far apart as real pictures are.",
    ),
    Figure("modes", "Classes found", {"classes": "modes"}, whole=True),
    Figure("speed", "Speed", {"thousand pictures a second": "kimg_per_second"}),
    Figure("resolution", "Resolution", {"pixels": "resolution"}, whole=True),
)


@dataclass(frozen=True)
class Curve:
    figure: Figure
    light: bytes  # PNG
    dark: bytes
    text: str  # what it shows, for those who do not see it

    @property
    def name(self) -> str:
        return self.figure.name


# Blue and orange stay apart for every kind of colour vision (Okabe and Ito 2008); both are brightened on dark paper.
LIGHT = {
    "paper": "#ffffff",
    "ink": "#3c4250",
    "faint": "#e3e6ec",
    "alarm": "#b3261e",
    "lines": ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9"],
}
DARK = {
    "paper": "#1a1d24",
    "ink": "#c3c8d4",
    "faint": "#323744",
    "alarm": "#ff8a80",
    "lines": ["#56b4e9", "#f2914a", "#2fc79a", "#e6a3c8", "#d9b92e", "#9fd3f5"],
}
SIZE = (6.4, 3.0)  # inches
COLUMN = 4.2  # inches, of each of several side by side
DPI = 150
LOG_FROM = 30
MARKED = 40  # points, up to which each is marked


def draw(record: Record) -> list[Curve]:
    """The figures for which the run has recorded something."""
    curves = []
    for figure in FIGURES:
        series = _series(record, figure)
        if series:
            last = ", ".join(f"{label} {values[-1]:.4g}" for label, (_, values) in series.items())
            pictures = [_png(figure, series, record.alarms, theme) for theme in (LIGHT, DARK)]
            curves.append(Curve(figure, *pictures, text=f"{figure.title} over the run; at the end: {last}."))
    return curves


def together(record: Record, names: Sequence[str]) -> bytes:
    """Those of the named figures for which the run has recorded something, side by side on light paper -> PNG."""
    chosen = [(figure, _series(record, figure)) for name in names for figure in FIGURES if figure.name == name]
    chosen = [(figure, series) for figure, series in chosen if series]
    canvas = _canvas(LIGHT, COLUMN * len(chosen))
    for number, (figure, series) in enumerate(chosen, 1):
        axes = canvas.add_subplot(1, len(chosen), number, facecolor=LIGHT["paper"])
        _plot(axes, figure, series, record.alarms, LIGHT)
        axes.set_ylabel(figure.title, color=LIGHT["ink"], fontsize=9)
    return _saved(canvas)


def _series(record: Record, figure: Figure) -> Series:
    """By label, of what was recorded."""
    series = {label: record.series(key) for label, key in figure.keys.items()}
    return {label: values for label, values in series.items() if values[0]}


def _png(figure: Figure, series: Series, alarms: list[dict[str, Any]], theme: dict) -> bytes:
    canvas = _canvas(theme)
    _plot(canvas.add_subplot(facecolor=theme["paper"]), figure, series, alarms, theme)
    return _saved(canvas)


def _canvas(theme: dict, width: float = SIZE[0]) -> Any:
    # Without pyplot, which would choose a window system and keep every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, SIZE[1]), dpi=DPI, facecolor=theme["paper"], layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas


def _saved(canvas: Any) -> bytes:
    buffer = BytesIO()
    canvas.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _plot(axes: Any, figure: Figure, series: Series, alarms: list[dict[str, Any]], theme: dict) -> None:
    from matplotlib.ticker import MaxNLocator

    for (label, (kimg, values)), colour in zip(series.items(), theme["lines"], strict=False):
        marker = "o" if len(kimg) <= MARKED else ""
        style = "steps-post" if figure.name == "resolution" else "default"
        axes.plot(kimg, values, color=colour, label=label, linewidth=1.5, marker=marker, markersize=3, drawstyle=style)
    axes.set_xlim(left=0)
    if figure.whole:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
    found = [value for _, values in series.values() for value in values]
    if figure.log and min(found) > 0 and max(found) > LOG_FROM * min(found):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    if figure.limits:
        axes.set_ylim(*figure.limits)
    for number, alarm in enumerate(alarms, 1):
        axes.axvline(alarm["kimg"], color=theme["alarm"], linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            str(number), (alarm["kimg"], 1), (3, -3), xycoords=("data", "axes fraction"), textcoords="offset points",
            color=theme["alarm"], fontsize=8, fontweight="bold", va="top",
        )  # fmt: skip
    axes.grid(color=theme["faint"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("kimg", color=theme["ink"], fontsize=9)
    axes.tick_params(which="both", colors=theme["ink"], labelsize=9, length=0)
    axes.spines[:].set_visible(False)
    if len(figure.keys) > 1:
        axes.legend(
            fontsize=9, frameon=False, labelcolor=theme["ink"], ncols=3, loc="lower left", bbox_to_anchor=(0, 1)
        )

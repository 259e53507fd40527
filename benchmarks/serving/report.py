"""The figures of the servers as a table, and as a picture."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median

from serving.engine.runtime import Runtime

Figures = dict[str, dict[str, list[float]]]
"""server -> measure -> a value a round."""

RAW, OURS = "the model alone", "Ganymede"
COLUMNS = {  # measure -> its head, what a value is multiplied by, and its form
    "images_1": ("1 image a request, PNG, 64 clients, images/s", 1, ",.0f"),
    "p50_64": ("p50, ms", 1e3, ".1f"),
    "p99_64": ("p99, ms", 1e3, ".1f"),
    "images_64": ("64 images a request, `.npy`, 4 clients, images/s", 1, ",.0f"),
    "p50_1": ("1 image, 1 client, p50, ms", 1e3, ".2f"),
    "empty": ("empty route, requests/s", 1, ",.0f"),
    "start": ("first picture after, s", 1, ".1f"),
    "memory": ("memory (PSS), MB", 1e-6, ",.0f"),
    "errors": ("errors", 1, ".0f"),
}


def table(figures: Mapping[str, Mapping[str, list[float]]], runtime: Runtime) -> str:
    """Medians with the least and the most of the rounds, and what was promised as ratios, in Markdown."""
    rounds = max(len(measures.get("p50_1", [])) for measures in figures.values())
    wrk = [value for measures in figures.values() for value in measures.get("wrk", [])]
    lines = [
        f"{runtime.model.id}, {runtime.provider}, {runtime.threads} threads; median (least to most) of {rounds} rounds "
        f"in turn. wrk took {median(wrk):.2f} of a processor at most times and {max(wrk):.2f} at the most.",
        "",
        f"| server | {' | '.join(head for head, _, _ in COLUMNS.values())} |",
        "| --- " * (len(COLUMNS) + 1) + "|",
    ]
    for server, measures in figures.items():
        cells = [spread(measures.get(name, []), factor, form) for name, (_, factor, form) in COLUMNS.items()]
        lines.append(f"| {server} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *ratios(figures)])


def spread(values: list[float], factor: float, form: str) -> str:
    if not values:
        return "-"
    values = [factor * value for value in values]
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratios(figures: Mapping[str, Mapping[str, list[float]]]) -> list[str]:
    """Of neighbours in a round, so that what else the machine does falls on both; the median."""
    if OURS not in figures:
        return []
    ours = figures[OURS]
    lines = ["| ratio | median (least to most) |", "| --- | --- |"]

    def line(text: str, above: list[float], below: list[float]) -> None:
        if above and below:
            lines.append(f"| {text} | {spread([a / b for a, b in zip(above, below, strict=True)], 1, '.2f')} |")

    raw = figures.get(RAW, {})
    line("64 images a request: images/s against the model alone", ours["images_64"], raw.get("images_64", []))
    line("1 image a request: images/s against the model alone", ours["images_1"], raw.get("images_64", []))
    for server, measures in figures.items():
        if server not in (RAW, OURS):
            line(f"1 image a request: images/s against {server}", ours["images_1"], measures.get("images_1", []))
    line("1 client, 1 image: p50 against the model's latency", ours["p50_1"], raw.get("p50_1", []))
    line("64 clients: p99 against p50", ours["p99_64"], ours["p50_64"])
    for server, measures in figures.items():
        if server not in (RAW, OURS):
            line(f"empty route: requests/s against {server}", ours["empty"], measures.get("empty", []))
    return lines


def picture(figures: Mapping[str, Mapping[str, list[float]]], path: Path) -> None:
    """Bars for each server, with the model alone as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = {"images_1": "1 image a request, 64 clients: images/s", "images_64": "64 images a request: images/s"}
    fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), width_ratios=(1.6, 1), layout="constrained")
    for axis, (measure, title) in zip(axes, panels.items(), strict=True):
        shown = {name: values[measure] for name, values in figures.items() if name != RAW and values.get(measure)}
        names = list(shown)[::-1]
        middle = [median(shown[name]) for name in names]
        errors = [
            [m - min(shown[name]) for m, name in zip(middle, names, strict=True)],
            [max(shown[name]) - m for m, name in zip(middle, names, strict=True)],
        ]
        colours = ["#2a6f97" if name == OURS else "#b9c4cc" for name in names]
        axis.barh(names, middle, xerr=errors, color=colours, ecolor="#555555", capsize=2)
        for position, value in enumerate(middle):
            axis.text(value, position, f" {value:,.0f}", va="center", fontsize=9)
        if RAW in figures:
            limit = median(figures[RAW]["images_64"])
            axis.axvline(limit, color="#c1121f", linewidth=1)
            axis.text(limit, -0.75, "the model alone ", color="#c1121f", fontsize=8, ha="right", va="bottom")
        axis.set_title(title, fontsize=10, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, dpi=110)

"""Results of the servers as Markdown tables and as a chart."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

from benchmarks.serving.servers import GANYMEDE
from serving.engine.runtime import Runtime

Results = dict[str, dict[str, list[float]]]
"""server -> metric -> one value for each round."""

RAW = "raw model"
METRICS = {  # metric -> (title, factor, format)
    "throughput_64": ("64 images a request, `.npy`, 4 clients: images/s", 1, ",.0f"),
    "throughput_1": ("1 image a request, PNG, 64 clients: images/s", 1, ",.0f"),
    "p50_64": ("the same: p50, ms", 1e3, ".1f"),
    "p99_64": ("the same: p99, ms", 1e3, ".1f"),
    "p50_1": ("1 client, 1 image: p50, ms", 1e3, ".2f"),
    "livez": ("`/livez`, 16 clients: requests/s", 1, ",.0f"),
    "start": ("start of process to first image, s", 1, ".2f"),
    "memory": ("memory (PSS) after the load, MB", 1e-6, ",.0f"),
    "errors": ("errors", 1, ".0f"),
}
RATIOS = "throughput_64", "throughput_1", "p50_1", "livez"  # reported against every other server
TARGETS = {  # (metric, server to compare with or None) -> (must, aim)
    ("throughput_64", RAW): (0.93, 0.97),
    ("throughput_1", "Ganymede, e641b93"): (1.05, 1.3),
    ("throughput_1", "FastAPI, batcher"): (1.2, 1.5),
    ("throughput_1", "Triton"): (1.2, 1.5),
    ("throughput_1", "LitServe"): (2.5, 3),
    ("throughput_1", "Ray Serve"): (8, 10),
    ("p50_1", "Ganymede, e641b93"): (1.0, 0.8),
    ("start", None): (1.2, 0.8),
    ("memory", None): (210, 150),
}


def table(results: Mapping[str, Mapping[str, list[float]]], runtime: Runtime, models: int) -> str:
    """Return the Markdown tables: median, minimum and maximum of each server's metrics, then ratios with targets."""
    rounds = max(len(metrics.get("p50_1", [])) for metrics in results.values())
    wrk = [value for metrics in results.values() for value in metrics.get("wrk", [])]
    lines = [
        f"{runtime.model.id}, {runtime.provider}, {runtime.threads} threads; median (minimum to maximum) of {rounds} "
        f"alternating rounds. Ganymede has {models} models loaded, a peer has one. "
        f"wrk used {median(wrk):.2f} CPU cores (median; maximum {max(wrk):.2f}).",
        "",
        f"| server | {' | '.join(title for title, _, _ in METRICS.values())} |",
        "| --- " * (len(METRICS) + 1) + "|",
    ]
    for server, metrics in results.items():
        cells = [spread(metrics.get(name, []), factor, form) for name, (_, factor, form) in METRICS.items()]
        lines.append(f"| {server} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *targets(results)])


def spread(values: list[float], factor: float = 1, form: str = ".2f") -> str:
    if not values:
        return "-"
    values = [factor * value for value in values]
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def targets(results: Mapping[str, Mapping[str, list[float]]]) -> Iterator[str]:
    """Yield the Markdown table of Ganymede's ratios and targets.

    A ratio compares two servers in the same round, because the speed of the machine differs more between rounds.
    """
    if GANYMEDE.name not in results:
        return
    ganymede = results[GANYMEDE.name]
    yield "| metric | median (minimum to maximum) | must | aim |"
    yield "| --- | --- | --- | --- |"
    for name in RATIOS:
        title = METRICS[name][0].removesuffix(", ms")
        for server, metrics in results.items():
            if server != GANYMEDE.name and name in metrics:
                ratio = spread([a / b for a, b in zip(ganymede[name], metrics[name], strict=True)])
                must, aim = TARGETS.get((name, server), ("-", "-"))
                yield f"| {title} against {server} | {ratio} | {must} | {aim} |"
    for name in ("start", "memory"):
        title, factor, form = METRICS[name]
        must, aim = TARGETS[name, None]
        yield f"| {title} | {spread(ganymede[name], factor, form)} | {must} | {aim} |"


def chart(results: Mapping[str, Mapping[str, list[float]]], path: Path) -> None:
    """Draw the throughput of each server as bars, and the throughput of the raw model as a line."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), width_ratios=(1.6, 1), layout="constrained")
    for axis, metric in zip(axes, ("throughput_1", "throughput_64"), strict=True):
        shown = {name: metrics[metric] for name, metrics in results.items() if name != RAW and metrics.get(metric)}
        names = list(shown)[::-1]
        middle = [median(shown[name]) for name in names]
        errors = [
            [m - min(shown[name]) for m, name in zip(middle, names, strict=True)],
            [max(shown[name]) - m for m, name in zip(middle, names, strict=True)],
        ]
        colours = ["#2a6f97" if name == GANYMEDE.name else "#b9c4cc" for name in names]
        axis.barh(names, middle, xerr=errors, color=colours, ecolor="#555555", capsize=2)
        for position, value in enumerate(middle):
            axis.text(value, position, f" {value:,.0f}", va="center", fontsize=9)
        limit = median(results[RAW]["throughput_64"])
        axis.axvline(limit, color="#c1121f", linewidth=1)
        axis.text(limit, -0.75, f"{RAW} ", color="#c1121f", fontsize=8, ha="right", va="bottom")
        title, unit = METRICS[metric][0].replace("`", "").split(": ")
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel(unit)
        axis.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, dpi=110)

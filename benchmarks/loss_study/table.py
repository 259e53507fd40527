"""Results of the study as Markdown: one row for each setting; a cell holds the mean over the seeds and the range."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.loss_study.settings import Setting

Result = dict[str, Any]

COLUMNS = {  # task -> metric of the last evaluation -> (heading, format)
    "ring": {
        "modes": ("modes of 8", "{:.1f}"),
        "quality": ("high quality, %", "{:.0f}"),
        "kl": ("KL, nats", "{:.3f}"),
        "average_modes": ("modes, average", "{:.1f}"),
        "average_quality": ("high quality, average, %", "{:.0f}"),
    },
    "stacked": {"modes": ("modes of 1,000", "{:.0f}"), "kl": ("KL, nats", "{:.2f}")},
}
PERCENT = {"quality", "average_quality"}


def markdown(task: str, results: Sequence[Result], settings: Sequence[Setting]) -> str:
    """Return the table of one task. `results` may contain other tasks.

    Diverged runs are counted in the title of the setting and left out of the means.
    """
    columns = COLUMNS[task]
    lines = [
        "| setting | overrides | " + " | ".join(heading for heading, _ in columns.values()) + " | seconds |",
        "| --- | --- |" + " ---: |" * (len(columns) + 1),
    ]
    for setting in settings:
        found = [r for r in results if r["task"] == task and r["setting"] == setting.name]
        if not found:
            continue
        whole = [r for r in found if not r["diverged"]]
        cells = [
            _cell([r["looks"][-1][name] * (100 if name in PERCENT else 1) for r in whole], form)
            for name, (_, form) in columns.items()
        ]
        title = setting.title if len(whole) == len(found) else f"{setting.title}; {len(found) - len(whole)} diverged"
        overrides = "<br>".join(f"`{override}`" for override in setting.overrides) or "none"
        seconds = f"{np.mean([r['seconds'] for r in found]):.0f}"
        lines.append(f"| {title} | {overrides} | " + " | ".join(cells) + f" | {seconds} |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float], form: str) -> str:
    if not values:
        return "-"
    mean, low, high = (form.format(value) for value in (np.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"

"""A run as a page: curves, grids over time, last figures, alarms and settings, in one file that needs no other.

record.py   what a run folder holds, read
curves.py   statistics -> PNG
page.py     all of it -> HTML, on page.html
"""

from pathlib import Path

from training.monitoring.report import curves, page
from training.monitoring.report.record import read


def report(run: Path) -> Path:
    """Writes `run/report/`: index.html, and its curves as PNGs. -> the page. Raises TrainingError."""
    record = read(run)
    folder = run / "report"
    folder.mkdir(exist_ok=True)
    drawn = curves.draw(record)
    for curve in drawn:
        (folder / f"{curve.name}.png").write_bytes(curve.light)
        (folder / f"{curve.name}-dark.png").write_bytes(curve.dark)
    path = folder / "index.html"
    path.write_text(page.render(record, drawn), encoding="utf-8")
    return path


__all__ = ["report"]

"""A run as a page: curves, grids over time, last figures, alarms and settings, in one file that needs no other.

record.py   what a run folder holds, read
curves.py   statistics -> PNG
page.py     all of it -> HTML, on page.html
"""

from pathlib import Path

from training import files
from training.monitoring.report import curves, page
from training.monitoring.report.record import read


def report(run: Path) -> Path:
    """Writes `run/report/`: index.html, and its curves as PNGs. -> the page. Raises TrainingError."""
    record = read(run)
    folder = run / "report"
    folder.mkdir(exist_ok=True)
    drawn = curves.draw(record)
    for curve in drawn:
        files.write(folder / f"{curve.name}.png", curve.light)
        files.write(folder / f"{curve.name}-dark.png", curve.dark)
    path = folder / "index.html"
    files.write(path, page.render(record, drawn))
    return path


__all__ = ["report"]

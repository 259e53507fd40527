"""Writes the table of settings into docs/deployment.md: text from `serving/api/settings.py`, defaults and ranges from
what it reads.

    python -m deploy.settings_table
"""

import re
from pathlib import Path

from serving.api import settings

PAGE = Path(__file__).parents[1] / "docs" / "deployment.md"
BEGIN, END = "<!-- settings: make docs -->", "<!-- end of settings -->"


class Recorder(settings._Reader):
    """Reads nothing, and keeps what each variable could have been."""

    def __init__(self, rows: dict[str, tuple[str, str]]):
        super().__init__({})
        self._rows = rows

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        self._rows[name] = str(default), f"{low:,} to {high:,}"
        return super().integer(name, default, low, high)

    def number(self, name: str, default: float | None, low: float, high: float):  # pyright: ignore
        self._rows[name] = "" if default is None else f"{default:g}", f"{low:,} to {high:,}"
        return super().number(name, default, low, high)  # pyright: ignore

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        self._rows[name] = default, ", ".join(choices)
        return super().choice(name, default, choices)


def table() -> str:
    """In Markdown."""
    rows: dict[str, tuple[str, str]] = {}
    original = settings._Reader
    settings._Reader = lambda _: Recorder(rows)  # pyright: ignore
    try:
        settings.Settings.from_environment({})
    finally:
        settings._Reader = original
    lines = ["| variable | what it sets | default | range |", "| --- | --- | --- | --- |"]
    for name, text in descriptions(settings.__doc__ or ""):
        default, values = rows.get(name, ("", ""))
        text = re.sub(rf"; {re.escape(default)}(?=$|\.)", "", text) if default else text  # it has a column of its own
        lines.append(f"| `{name}` | {text} | {default} | {values} |")
    return "\n".join(lines)


def descriptions(docstring: str) -> list[tuple[str, str]]:
    """A variable's text goes on in the lines that are indented below it."""
    found = re.findall(r"^([A-Z_]{6,}) +(.*(?:\n {8,}\S.*)*)", docstring, re.M)
    return [(name, " ".join(text.split()).replace("|", "\\|")) for name, text in found]


def page_with(table: str) -> str:
    before, rest = PAGE.read_text().split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page_with(table()))

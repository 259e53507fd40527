"""docs/deployment.md agrees with the code."""

import re
from pathlib import Path

from deploy import settings_table
from serving.api.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "deployment.md"


def test_the_table_of_settings_is_current():
    assert settings_table.page_with(settings_table.table()) == PAGE.read_text(), "run `make docs`"


def test_the_table_has_every_setting_with_its_default():
    table = settings_table.table()
    names = re.findall(r"^\| `(GANYMEDE_\w+)`", table, re.M)
    assert names == [f"GANYMEDE_{name.upper()}" for name in Settings.model_fields]
    assert "| `GANYMEDE_DRAIN` | seconds after SIGTERM" in table and "| 3 | a number between 0 and 600 |" in table
    assert "| info | one of debug, info, warning, error |" in table


def test_links_files_and_targets_of_the_page_exist():
    text = PAGE.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    assert [link for link in links if not re.match("https?:", link) and not (PAGE.parent / link).exists()] == []
    assert [name for name in re.findall(r"(?<![\w/])deploy/[\w./@-]+\w", text) if not (ROOT / name).exists()] == []
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M)
    assert {target for target in re.findall(r"`?make ([a-z][a-z-]+)", text)} <= set(targets)

"""The pages of the documentation: links and anchors resolve, test files exist, and lines are short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LONGEST = 120


def prose(page: str) -> list[str]:
    """Return the lines that are no code, table, comment or generated text."""
    page = re.sub(r"^```.*?^```$|<!-- .*?-->", "", page, flags=re.M | re.S)
    return [line for line in page.splitlines() if not line.startswith("|")]


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_anchors_resolve(page: Path):
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            wrong.append(link)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_prose_are_short(page: Path):
    """Except for one long word, such as an address."""
    assert [line for line in prose(page.read_text()) if len(line) > LONGEST and " " in line.strip("- ")] == []


def test_the_tests_that_reliability_names_exist():
    folders = {"": ROOT / "tests" / "serving", "Containers and replicas": ROOT / "tests" / "deploy"}
    for section in (ROOT / "docs" / "reliability.md").read_text().split("\n## ")[1:]:
        folder = folders.get(section.splitlines()[0], folders[""])
        for row in re.findall(r"^\| .*$", section, re.M):
            for name in re.findall(r"`([\w./]+\.py|[\w./]+/)`", row):
                assert (folder / name).exists(), name


def test_the_readme_fits_on_a_few_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 220

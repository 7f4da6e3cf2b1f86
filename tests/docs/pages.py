"""The pages that are compared with the code: their sections, their lists, and the files that they name."""

import re
from pathlib import Path

__all__ = ["ARCHITECTURE", "FOLDERS", "GLOSSARY", "PAGES", "ROOT", "first_column", "named_files", "section"]

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("events", "cluster", "actors", "gateway")
ARCHITECTURE = ROOT / "docs" / "explanation" / "architecture.md"
GLOSSARY = ROOT / "docs" / "reference" / "glossary.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_NAMED = re.compile(r"`((?:events|cluster|actors|gateway|tests|docs|benchmarks|examples)/[\w./*-]*)`")


def section(page: Path, heading: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    text = page.read_text()
    level = heading.partition(" ")[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page.name} has no heading {heading!r}"
    return found[1]


def named_files(text: str) -> list[str]:
    """What stands in backticks and is a path from the repository's root."""
    return _NAMED.findall(text)


def first_column(text: str) -> list[str]:
    """The first cell of each row of the tables in a text, without backticks; heads are left out."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    heads = {at - 1 for at, row in enumerate(rows) if row.startswith("|--")}
    bodies = [row for at, row in enumerate(rows) if at not in heads and not row.startswith("|--")]
    return [row.split("|")[1].strip().strip("`") for row in bodies]

"""Sections: parts of RESULTS.md that are measured separately (against an older revision, under torture).

Rules: each is a file in `sections/`, kept until it is measured again. RESULTS.md has the figures of the last full run,
then the sections in the order of their names.
"""

from pathlib import Path

__all__ = ["assemble", "keep"]

_HERE = Path(__file__).resolve().parent
_FOLDER = _HERE / "sections"
_MARK = "<!-- what follows was measured by itself: see benchmarks/sections -->"


def keep(name: str, text: str) -> None:
    """Keep a section, and put it into RESULTS.md."""
    _FOLDER.mkdir(exist_ok=True)
    (_FOLDER / f"{name}.md").write_text(text, encoding="utf-8")
    results = _HERE / "RESULTS.md"
    results.write_text(assemble(results.read_text(encoding="utf-8")), encoding="utf-8")


def assemble(results: str) -> str:
    """RESULTS.md of a full run, followed by the sections."""
    head = results.partition(_MARK)[0].rstrip()
    texts = [path.read_text(encoding="utf-8").strip() for path in sorted(_FOLDER.glob("*.md"))]
    return "\n\n".join([head, _MARK, *texts]) + "\n"

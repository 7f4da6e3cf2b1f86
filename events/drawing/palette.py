"""The palette of the SVG: its colours on a light and on a dark background, as CSS.

Rules: text has a contrast of at least 4.5:1 on each background that it stands on, lines and outlines 3:1 on the paper
(WCAG 2.1, 1.4.3 and 1.4.11). Both themes name the same colours.
"""

from collections.abc import Mapping

__all__ = ["DARK", "LIGHT", "variables"]

LIGHT: Mapping[str, str] = {
    "ink": "#1e1b4b",
    "faint": "#475569",
    "line": "#64748b",
    "step": "#e0e7ff",
    "step-line": "#4f46e5",
    "event": "#ecfdf5",
    "event-line": "#059669",
    "hook": "#fef3c7",
    "hook-line": "#d97706",
    "bad": "#fef2f2",
    "bad-line": "#dc2626",
    "paper": "#ffffff",
}
DARK: Mapping[str, str] = {
    "ink": "#e2e8f0",
    "faint": "#94a3b8",
    "line": "#64748b",
    "step": "#272757",
    "step-line": "#818cf8",
    "event": "#0b3b2e",
    "event-line": "#34d399",
    "hook": "#45300a",
    "hook-line": "#fbbf24",
    "bad": "#4a1414",
    "bad-line": "#f87171",
    "paper": "#0f172a",
}


def variables() -> str:
    """The colours as CSS variables of `.ensue`, dark if the reader's system is."""
    dark = f".ensue {{ {_declared(DARK)} }}"
    return f".ensue {{ {_declared(LIGHT)} }}\n  @media (prefers-color-scheme: dark) {{ {dark} }}"


def _declared(colours: Mapping[str, str]) -> str:
    return "; ".join(f"--{name}: {colour}" for name, colour in colours.items())

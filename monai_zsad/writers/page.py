"""Parts of HTML pages that need nothing but themselves: frame, style, tables, numbers as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

__all__: list[str] = []

NOTHING = "\N{EN DASH}"
TIMES = " \N{MULTIPLICATION SIGN} "
RESEARCH_ONLY = "For research only. Not for clinical use."

_STYLE = """
:root { --ink: #1f2328; --soft: #5b636d; --line: #d9dee4; --ground: #f4f6f8; --accent: #1a5fb4; --warn: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 24px 48px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 12px; }
p { margin: 0 0 8px; }
ul { margin: 0; padding-left: 20px; }
.note { margin: 10px 0 0; }
.kind { color: var(--soft); margin: 0 0 2px; }
.notice { margin: 16px 0 0; padding: 9px 14px; border-radius: 6px; background: #fff4d6; border: 1px solid #ecd48a; }
.alarm { background: var(--warn); border-color: var(--warn); color: #fff; font-weight: 600; }
section { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 18px 20px; margin-top: 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 14px; margin-top: 18px; }
.tile { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.tile b { display: block; font-size: 25px; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span, .note { color: var(--soft); font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; font-size: 13px; color: var(--soft); vertical-align: bottom; }
tbody tr:last-child > * { border-bottom: 0; }
.number { text-align: right; }
.number, .whole { white-space: nowrap; }
.facts th { width: 34%; font-size: 14px; font-weight: 400; vertical-align: top; }
.facts td { overflow-wrap: anywhere; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 18px;
  margin-top: 18px; }
.columns section { margin-top: 0; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px;
  border: 1px solid rgba(0, 0, 0, .25); }
figure { margin: 0 0 18px; break-inside: avoid; }
figure:last-of-type { margin-bottom: 6px; }
figcaption { margin-bottom: 5px; }
img { display: block; max-width: 100%; border-radius: 6px; }
a { color: var(--accent); }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  text-align: inherit; }
th button:hover { color: var(--accent); }
th[aria-sort] button { color: var(--ink); }
th[aria-sort="descending"] button::after { content: " \\25BE"; }
th[aria-sort="ascending"] button::after { content: " \\25B4"; }
footer { color: var(--soft); font-size: 13px; margin-top: 22px; }
@media (max-width: 540px) { .columns { grid-template-columns: 1fr; } main { padding: 18px 12px 32px; } }
@media print { body { background: #fff; } main { max-width: none; padding: 0; } section { break-inside: avoid; } }
"""

# The browser itself then refuses to load anything from elsewhere.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(title: str, body: Iterable[str], script: str = "") -> str:
    """A whole page; ``title`` is text, ``body`` parts of HTML, ``script`` runs when the page is there."""
    policy = f"{_POLICY}; script-src 'unsafe-inline'" if script else _POLICY
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        "<main>",
        *body,
        "</main>",
        *([f"<script>{script}</script>"] if script else []),
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def heading(kind: str, title: str) -> str:
    """Headline of a page with the words that nothing may be taken for a diagnosis."""
    return (
        f'<header><p class="kind">{escape(kind)}</p><h1>{escape(title)}</h1></header>\n'
        f'<p class="notice">{RESEARCH_ONLY}</p>'
    )


def alarm(words: str) -> str:
    """A red notice."""
    return f'<p class="notice alarm" role="alert">{escape(words)}</p>'


def tile(value: str, words: str) -> str:
    """A number to be seen first."""
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(words)}</span></div>'


def section(title: str, *parts: str) -> str:
    """A box with a title around parts of HTML."""
    return "\n".join([f"<section><h2>{escape(title)}</h2>", *parts, "</section>"])


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], numeric: int = 0) -> str:
    """A table of HTML cells; headers are text, the cells from column ``numeric`` on are numbers."""
    classes = [' class="number"' if column >= numeric else "" for column in range(len(headers))]
    head = "".join(f"<th{own}>{escape(header)}</th>" for own, header in zip(classes, headers, strict=True))
    body = [
        "<tr>" + "".join(f"<td{own}>{cell}</td>" for own, cell in zip(classes, row, strict=True)) + "</tr>"
        for row in rows
    ]
    return "\n".join(
        [f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>', *body, "</tbody></table></div>"]
    )


def facts(values: Mapping[str, Any]) -> str:
    """Names and values as a table of two columns; what is nested gets names with dots."""
    rows = [f"<tr><th>{escape(name)}</th><td>{escape(shown(value))}</td></tr>" for name, value in _nested(values)]
    return "\n".join(['<table class="facts"><tbody>', *rows, "</tbody></table>"])


def _nested(values: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _nested(value, f"{above}{name}.")
        else:
            rows.append((f"{above}{name}", value))
    return rows


def shown(value: Any) -> str:
    """A value as text: numbers short, lists with commas, a dash for what is not there."""
    if value is None or value in ("", [], {}, ()):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in value)
    return str(value)


def decimal(value: float | None, digits: int = 3) -> str:
    """A number with so many decimals, or a dash."""
    return NOTHING if value is None else f"{value:.{digits}f}"

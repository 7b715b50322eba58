"""How results show themselves: a table in Jupyter, and the viewer."""

from __future__ import annotations

import html
import shutil
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_zsad.writers.facts import UNFAMILIAR_WARNING

__all__ = ["case_html", "run_html", "show_page"]

_MOST_ROWS = 5
_CELL = "padding:2px 12px 2px 0;text-align:left;border-bottom:1px solid rgba(128,128,128,.3)"
_HEIGHT = 760


def case_html(case: str, state: str, findings: Mapping[str, Any] | None) -> str:
    """Score and most suspicious candidates of a case, for Jupyter. The colours are those of the notebook.

    Args:
        case: its name.
        state: what is said in the place of the findings.
        findings: content of ``findings.json``; None if there are no results.

    Example:
        >>> case_html("anna", "refused. The file is empty; copy it again", None)
        '<div style="color:inherit"><b>anna</b>: refused. The file is empty; copy it again</div>'
    """
    title = f"<b>{html.escape(case)}</b>"
    if findings is None:
        return _box(f"{title}: {html.escape(state)}")
    found = findings["candidates"]
    count = f"{len(found)} candidate{'' if len(found) == 1 else 's'}"
    rows = [
        (
            str(one["id"]),
            f"{one['peak_score']:.3f}",
            f"{one['volume_mm3']:,.0f}",
            ", ".join(f"{mm:.0f}" for mm in one["peak_ras_mm"]),
        )
        for one in found[:_MOST_ROWS]
    ]
    table = _table(("candidate", "peak score", "volume (mm³)", "peak at (RAS, mm)"), rows) if rows else ""
    more = f"<div>and {len(found) - _MOST_ROWS} more</div>" if len(found) > _MOST_ROWS else ""
    others = [text for text in findings["warnings"] if text != UNFAMILIAR_WARNING]
    warned = "".join(f"<div>Warning: {html.escape(text)}</div>" for text in others)
    first = f"<div><b>{UNFAMILIAR_WARNING.capitalize()}.</b></div>" if findings.get("unfamiliar") else ""
    return _box(f"{first}{title}: volume score <b>{findings['volume_score']:.3f}</b>, {count}{table}{more}{warned}")


def run_html(summary: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of several cases, for Jupyter.

    Args:
        summary: one line.
        rows: of the cases, all with the same keys.
    """
    cells = [tuple(_text(value) for value in row.values()) for row in rows]
    return _box(html.escape(summary) + (_table(tuple(rows[0]), cells) if rows else ""))


def show_page(title: str, report: Path | None, viewer: Callable[[], str], keep: bool) -> None:
    """Show the viewer: in Jupyter below the cell, elsewhere the report in the browser.

    Args:
        title: name of the case.
        report: page of the case; None if there is none.
        viewer: makes a page with the viewer alone.
        keep: the report is in a folder that stays. If not, the browser gets a copy.
    """
    if _in_jupyter():
        from IPython.display import HTML, display

        frame = f'<iframe srcdoc="{html.escape(viewer())}" sandbox="allow-scripts" title="{html.escape(title)}"'
        display(HTML(f'<div>{frame} style="width:100%;height:{_HEIGHT}px;border:0"></iframe></div>'))
        return
    if report is None or not keep:
        own = Path(tempfile.mkdtemp(prefix="monai-zsad-shown-")) / "report.html"
        if report is None:
            own.write_text(viewer(), encoding="utf-8")
        else:
            shutil.copyfile(report, own)
        report = own
    webbrowser.open(report.absolute().as_uri())


def _in_jupyter() -> bool:
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f'<th style="{_CELL}">{html.escape(text)}</th>' for text in head)
    lines = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{html.escape(text)}</td>' for text in row) + "</tr>" for row in rows
    )
    return (
        f'<table style="margin:6px 0;border-collapse:collapse;color:inherit;background:none"><thead><tr>{titles}</tr>'
        f"</thead><tbody>{lines}</tbody></table>"
    )


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _box(content: str) -> str:
    return f'<div style="color:inherit">{content}</div>'

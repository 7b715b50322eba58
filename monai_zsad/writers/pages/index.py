"""The worklist of a folder of results: every case with its scores, to sort, filter and search, with its report."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from monai_zsad.errors import OutputError
from monai_zsad.result_files import CASE_FILES, INDEX_FILE, STATUS_TABLES, SUMMARY_FILE
from monai_zsad.writers.facts import SEEDED_WARNING, UNFAMILIAR_WARNING
from monai_zsad.writers.figures.drawing import THUMBNAIL_KEY
from monai_zsad.writers.files import atomic_path
from monai_zsad.writers.pages.values import NOTHING, decimal, nested, render, shown

__all__ = ["write_index"]


class _Column(NamedTuple):
    """A column by which the table can be sorted."""

    name: str
    largest_first: bool = False
    is_text: bool = False
    is_sorted: bool = False


_COLUMNS = (
    _Column("case", is_text=True),
    _Column("volume score", largest_first=True, is_sorted=True),
    _Column("p-value"),
    _Column("candidates", largest_first=True),
    _Column("highest peak", largest_first=True),
    _Column("total volume, ml", largest_first=True),
    _Column("modality", is_text=True),
    _Column("status", is_text=True),
    _Column("warnings", largest_first=True),
)
# Files with a link beside the report, by their names in findings.json.
_LINKS = ("preview", "table")
# What is said of the run above the cases: name on the page, and where it stands in findings.json.
_SAID = {
    "bundle": "run.bundle",
    "anatomy": "run.anatomy",
    "modality": "run.modality",
    "threshold": "settings.threshold",
    "version": "software.monai_zsad",
}
# The previews are files beside the page. `file:` is for browsers in which it is not `'self'`.
_POLICY = (
    "default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)

_FORMULA = "'"
# Rows of a table that the browser lays out at once.
_PAGE_ROWS = 100
# Different values of a setting that are named.
_MOST_VALUES = 4


class _State(NamedTuple):
    """A line of a run's table of cases."""

    case: str
    status: str = "failed"
    codes: str = ""
    reason: str = ""


def write_index(output_dir: str | os.PathLike[str], title: str = "Anomaly screening") -> Path:
    """Write ``<output_dir>/index.html`` from every ``<case>/findings.json`` in the folder.

    The cases are sorted by volume score, the most suspicious first; a click on a header sorts by that column. Rows can
    be searched, and filtered by status, modality and score. Links are relative and only to files that exist. The page
    shows a hundred rows at a time, and loads the previews of these cases and nothing else: so it is written and opens
    fast. If there is a ``status.csv`` or a ``summary.json``, refused and failed cases are listed with their codes and
    reasons, and so are inputs that are not cases: refused or left out when the scans were found. Findings that cannot
    be read are listed, too.

    Args:
        output_dir: folder of a run.
        title: title of the page.

    Returns:
        Path of the page.

    Raises:
        OutputError: if the folder does not exist, or the page cannot be written.

    Example:
        >>> import tempfile
        >>> write_index(tempfile.mkdtemp()).name
        'index.html'
    """
    folder = Path(output_dir).expanduser()
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder; give the folder with the results of a run")
    cases: list[tuple[Path, dict[str, Any]]] = []
    states = _states(folder)
    undone = [state for state in states.values() if state.status in ("refused", "failed", "left-out")]
    for file in sorted(folder.glob(f"*/{CASE_FILES['findings'].name}")):
        content = _read(file)
        if content is None:
            undone.append(_State(file.parent.name, reason=f"{file.name} cannot be read; run the case again"))
        else:
            cases.append((file.parent, content))
    cases.sort(key=lambda case: (-case[1]["volume_score"], case[1]["case"]))
    target = folder / INDEX_FILE
    with atomic_path(target) as temporary:
        temporary.write_text(_page(title, cases, states, undone), encoding="utf-8")
    return target


def _read(file: Path) -> dict[str, Any] | None:
    """The values of the findings that the page shows; None if the file cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        peaks = [float(found["peak_score"]) for found in content["candidates"]]
        volume = sum(float(found["volume_mm3"]) for found in content["candidates"])
        p_value = content["volume_p_value"]
        return {
            "case": str(content["case"]),
            "volume_score": float(content["volume_score"]),
            "p_value": None if p_value is None else float(p_value),
            "candidates": len(peaks),
            "peak": max(peaks, default=None),
            "volume_ml": volume / 1000,
            "modality": str(content["scan"]["modality"] or ""),
            "settings": dict(
                nested({name: content.get(name) or {} for name in ("run", "settings", "model", "software")})
            ),
            "warnings": [str(warning) for warning in content["warnings"]],
            "files": {str(kind): str(name) for kind, name in content["files"].items()},
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _states(folder: Path) -> dict[str, _State]:
    """The status of each case; refused cases are failed in ``summary.json``, and refused in ``status.csv``."""
    try:
        cases = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))["cases"]
        found = [_of_summary(own) for own in cases]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found = []
    try:
        with (folder / STATUS_TABLES[0]).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        # The apostrophe prevents a spreadsheet from reading a text as a formula.
        texts = [[row[name].removeprefix(_FORMULA) for name in _State._fields] for row in rows]
        found += [_State(*text) for text in texts]
    except (OSError, ValueError, KeyError, AttributeError, csv.Error):
        pass
    return {state.case: state for state in found}


def _of_summary(own: Mapping[str, Any]) -> _State:
    return _State(str(own["case"]), str(own["status"]), " ".join(own.get("codes", ())), str(own.get("reason", "")))


def _page(
    title: str,
    cases: Sequence[tuple[Path, Mapping[str, Any]]],
    states: Mapping[str, _State],
    undone: Sequence[_State],
) -> str:
    seeded = sum(SEEDED_WARNING in content["warnings"] for _, content in cases)
    found = sum(content["candidates"] > 0 for _, content in cases)
    unfamiliar = sum(UNFAMILIAR_WARNING in content["warnings"] for _, content in cases)
    left_out = {state for state in undone if state.status == "left-out"}
    columns = [
        column
        for column in _COLUMNS
        if column.name != "p-value" or any(content["p_value"] is not None for _, content in cases)
    ]
    rows = [_row(folder, content, states.get(content["case"]), columns) for folder, content in cases]
    counts = {status: sum(state.status == status for state in undone) for status in ("refused", "failed")}
    settings = _common([content["settings"] for _, content in cases])
    values = {
        "title": title,
        "policy": _POLICY,
        "alarm": f"NOT A RESULT ({seeded} of {len(cases)} cases): {SEEDED_WARNING}" if seeded else "",
        "run": [(name, shown(settings[key])) for name, key in _SAID.items() if settings.get(key) not in (None, "")],
        "settings": settings,
        "tiles": [
            (len(cases), "case" if len(cases) == 1 else "cases", ""),
            (found, "with lesion candidates", ""),
            *([(unfamiliar, "outside of the training data", "")] if unfamiliar else []),
            *((count, status, "not-done" if count else "") for status, count in counts.items()),
            *([(len(left_out), "left out", "left-out")] if left_out else []),
        ],
        "columns": columns,
        "page_rows": _PAGE_ROWS,
        "rows": rows,
        "states": sorted({row["status"] for row in rows} | {state.status for state in undone if state not in left_out}),
        "modalities": sorted({row["modality"] for row in rows} - {""}),
        "undone": sorted((state for state in undone if state not in left_out), key=lambda state: state.case),
        "left_out": sorted((state.codes, state.reason, state.case) for state in left_out),
    }
    return render("index.html.j2", values)


def _common(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each setting's value; where cases differ, its values with the number of cases, or how many there are."""
    values: dict[str, Counter[str]] = {}
    for own in settings:
        for name, value in own.items():
            values.setdefault(name, Counter())[shown(value)] += 1
    found: dict[str, Any] = {}
    for name, counts in values.items():
        if len(counts) == 1:
            found[name] = "" if NOTHING in counts else next(iter(counts))
        elif len(counts) > _MOST_VALUES:
            found[name] = f"{len(counts)} different values"
        else:
            found[name] = ", ".join(f"{value} ({count})" for value, count in counts.most_common())
    return found


def _row(folder: Path, content: Mapping[str, Any], state: _State | None, columns: Sequence[_Column]) -> dict[str, Any]:
    files = {kind: name for kind, name in content["files"].items() if Path(name).name == name}
    links = {kind: _link(folder, name) for kind, name in files.items() if (folder / name).is_file()}
    numbers = {
        "volume score": (content["volume_score"], decimal(content["volume_score"])),
        "p-value": (content["p_value"], decimal(content["p_value"])),
        "candidates": (content["candidates"], str(content["candidates"])),
        "highest peak": (content["peak"], decimal(content["peak"])),
        "total volume, ml": (content["volume_ml"], decimal(content["volume_ml"], 2)),
    }
    modality, status = content["modality"], state.status if state else "done"
    # By what each column is sorted; without a value, last.
    order = {name: "" if value is None else repr(value) for name, (value, _) in numbers.items()}
    order |= {
        "case": content["case"],
        "modality": modality,
        "status": status,
        "warnings": str(len(content["warnings"])),
    }
    return {
        "case": content["case"],
        "status": status,
        "codes": state.codes if state else "",
        "score": order["volume score"],
        "order": [order[column.name] for column in columns],
        "numbers": [(column.name, numbers[column.name][1]) for column in columns if column.name in numbers],
        "modality": modality,
        "unfamiliar": UNFAMILIAR_WARNING if UNFAMILIAR_WARNING in content["warnings"] else "",
        "warnings": content["warnings"],
        "report": links.get("report", ""),
        "thumbnail": _thumbnail(folder / files["preview"], links["preview"]) if "preview" in links else None,
        "links": [(kind, links[kind]) for kind in _LINKS if kind in links],
    }


def _thumbnail(preview: Path, link: str) -> dict[str, str] | None:
    """The part of a preview that shows the most suspicious slice, in a square. Only the header of the file is read."""
    from PIL import Image

    try:
        with Image.open(preview) as image:
            (width, height), text = image.size, str(image.info.get(THUMBNAIL_KEY, ""))
    except (OSError, ValueError, SyntaxError):
        return None
    try:
        left, top, right, bottom = (float(part) for part in text.split())
    except ValueError:
        left, top, right, bottom = 0.0, 0.0, float(width), float(height)
    across, down = max(right - left, 1.0), max(bottom - top, 1.0)
    side = max(across, down)
    return {
        "link": link,
        "part": _percent(width=across / side, height=down / side),
        "whole": _percent(width=width / across, left=-left / across, top=-top / down),
    }


def _percent(**shares: float) -> str:
    return "; ".join(f"{name}: {100 * share:.2f}%" for name, share in shares.items())


def _link(folder: Path, name: str) -> str:
    # Without the dot, a browser would take the part before a colon for the scheme of an address.
    return "./" + quote(f"{folder.name}/{name}")

"""One page for a folder of results: every case with its scores, sortable, with links to its files."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from monai_zsad.errors import OutputError
from monai_zsad.result_files import INDEX_FILE, STATUS_TABLES, SUMMARY_FILE, case_file
from monai_zsad.writers.facts import SEEDED_WARNING
from monai_zsad.writers.files import atomic_path
from monai_zsad.writers.pages.values import decimal, render

__all__ = ["write_index"]


class _Column(NamedTuple):
    """A column by which the table can be sorted."""

    name: str
    largest_first: bool = False
    is_text: bool = False
    is_sorted: bool = False


_COLUMNS = (
    _Column("case", is_text=True),
    _Column("status", is_text=True),
    _Column("volume score", largest_first=True, is_sorted=True),
    _Column("p-value"),
    _Column("candidates", largest_first=True),
    _Column("highest peak", largest_first=True),
    _Column("total volume, ml", largest_first=True),
    _Column("modality", is_text=True),
    _Column("warnings", largest_first=True),
)
# Files with a link, by their names in findings.json.
_LINKS = ("report", "preview", "table")

_FORMULA = "'"


class _State(NamedTuple):
    """A line of a run's table of cases."""

    case: str
    status: str = "failed"
    codes: str = ""
    reason: str = ""


def write_index(output_dir: str | os.PathLike[str], title: str = "Anomaly screening") -> Path:
    """Write ``<output_dir>/index.html`` from every ``<case>/<case>_findings.json`` in the folder.

    The cases are sorted by volume score, the most suspicious first; a click on a header sorts by that column. Links are
    relative and only to files that exist. The page loads no other files. If there is a ``status.csv`` or a
    ``summary.json``, refused and failed cases are listed with their codes and reasons, and so are inputs that are not
    cases: refused or left out when the scans were found. Findings that cannot be read are listed, too.

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
        raise OutputError(f"{folder}: no such folder; give the --output_dir of a run")
    cases: list[tuple[Path, dict[str, Any]]] = []
    states = _states(folder)
    undone = [state for state in states.values() if state.status in ("refused", "failed", "left-out")]
    for file in sorted(folder.glob(f"*/{case_file('*', 'findings')}")):
        if file.name != case_file(file.parent.name, "findings"):
            continue
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
    left_out = {state for state in undone if state.status == "left-out"}
    values = {
        "title": title,
        "alarm": f"NOT A RESULT ({seeded} of {len(cases)} cases): {SEEDED_WARNING}" if seeded else "",
        "tiles": [
            (len(cases), "case" if len(cases) == 1 else "cases"),
            (found, "with lesion candidates"),
            *((sum(state.status == status for state in undone), status) for status in ("refused", "failed")),
            *([(len(left_out), "left out")] if left_out else []),
        ],
        "columns": _COLUMNS,
        "rows": [_row(folder, content, states.get(content["case"])) for folder, content in cases],
        "undone": sorted((state for state in undone if state not in left_out), key=lambda state: state.case),
        "left_out": sorted((state.codes, state.reason, state.case) for state in left_out),
    }
    return render("index.html.j2", values)


def _row(folder: Path, content: Mapping[str, Any], state: _State | None) -> dict[str, Any]:
    files = {kind: name for kind, name in content["files"].items() if kind in _LINKS and Path(name).name == name}
    numbers = [(content[name], decimal(content[name])) for name in ("volume_score", "p_value")]
    numbers += [(content["candidates"], str(content["candidates"])), (content["peak"], decimal(content["peak"]))]
    numbers += [(content["volume_ml"], decimal(content["volume_ml"], 2))]
    return {
        "case": content["case"],
        "status": state.status if state else "done",
        "codes": state.codes if state else "",
        "numbers": [("" if value is None else repr(value), text) for value, text in numbers],
        "modality": content["modality"],
        "warnings": content["warnings"],
        "links": [
            (kind, _link(folder, files[kind])) for kind in _LINKS if kind in files and (folder / files[kind]).is_file()
        ],
    }


def _link(folder: Path, name: str) -> str:
    # Without the dot, a browser would take the part before a colon for the scheme of an address.
    return "./" + quote(f"{folder.name}/{name}")

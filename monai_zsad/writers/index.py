"""One page for a folder of results: every case with its scores, sortable, with links to its files."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from monai_zsad.errors import OutputError
from monai_zsad.result_files import INDEX_FILE, STATUS_TABLES, SUMMARY_FILE, case_file
from monai_zsad.writers.facts import SEEDED_WARNING
from monai_zsad.writers.files import atomic_path
from monai_zsad.writers.page import NOTHING, alarm, decimal, heading, page, section, tile

__all__ = ["write_index"]

# Headers, and whether a first click sorts from the largest down.
_COLUMNS = (
    ("case", False),
    ("status", False),
    ("volume score", True),
    ("p-value", False),
    ("candidates", True),
    ("highest peak", True),
    ("total volume, ml", True),
    ("modality", False),
    ("warnings", True),
)
_SORTED_BY = 2
_TEXTS = ("case", "status", "modality")
_LINKS = ("report", "preview", "table")

_FORMULA = "'"


class _State(NamedTuple):
    """A line of a run's table of cases."""

    case: str
    status: str = "failed"
    codes: str = ""
    reason: str = ""


_SCRIPT = """
const table = document.querySelector("table.sortable");
const heads = table ? [...table.tHead.rows[0].cells] : [];
const key = (row, column) => row.cells[column].dataset.value;
heads.forEach((head, column) => {
  const button = head.querySelector("button");
  if (!button) return;
  button.addEventListener("click", () => {
    const now = head.getAttribute("aria-sort");
    const down = now ? now === "ascending" : head.dataset.down === "true";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, two) => {
      const a = key(one, column), b = key(two, column);
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = head.dataset.kind === "number" ? a - b : a.localeCompare(b, undefined, {numeric: true});
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  });
});
"""


def write_index(output_dir: str | os.PathLike[str], title: str = "Anomaly screening") -> Path:
    """Write ``<output_dir>/index.html`` from every ``<case>/<case>_findings.json`` in the folder.

    The most suspicious case (by volume score) stands first; a click on a header sorts by its column. Links are relative
    and lead to files that exist, nothing is loaded from elsewhere. Cases that were refused or failed are listed with
    codes and reason where the run has left a ``status.csv`` or ``summary.json``, and so are findings that cannot be
    read.

    Args:
        output_dir: folder of a run.
        title: of the page.

    Returns:
        Path of the page.

    Raises:
        OutputError: if there is no such folder, or the page cannot be written.

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
    undone = [state for state in states.values() if state.status in ("refused", "failed")]
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
    """Findings with all that the page shows; None where that is not so."""
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
    """What a run says of its cases, by case; its summary knows refused ones as failed."""
    try:
        cases = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))["cases"]
        found = [_State(str(own["case"]), str(own["status"]), "", str(own.get("reason", ""))) for own in cases]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found = []
    try:
        with (folder / STATUS_TABLES[0]).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        # An apostrophe keeps a spreadsheet from taking a text for a formula.
        texts = [[row[name].removeprefix(_FORMULA) for name in _State._fields] for row in rows]
        found += [_State(*text) for text in texts]
    except (OSError, ValueError, KeyError, AttributeError, csv.Error):
        pass
    return {state.case: state for state in found}


def _page(
    title: str,
    cases: Sequence[tuple[Path, Mapping[str, Any]]],
    states: Mapping[str, _State],
    undone: Sequence[_State],
) -> str:
    body = [heading("Index of results", title)]
    seeded = sum(SEEDED_WARNING in content["warnings"] for _, content in cases)
    if seeded:
        body.append(alarm(f"NOT A RESULT ({seeded} of {len(cases)} cases): {SEEDED_WARNING}"))
    tiles = [
        tile(str(len(cases)), "case" if len(cases) == 1 else "cases"),
        tile(str(sum(content["candidates"] > 0 for _, content in cases)), "with lesion candidates"),
        *(tile(str(sum(state.status == status for state in undone)), status) for status in ("refused", "failed")),
    ]
    body.append('<div class="tiles">' + "\n".join(tiles) + "</div>")
    body.append(section("Cases", _table(cases, states) if cases else "<p>No findings in this folder.</p>"))
    if undone:
        ordered = sorted(undone, key=lambda state: state.case)
        rows = ("".join(f"<td>{escape(text) or NOTHING}</td>" for text in state) for state in ordered)
        head = "<thead><tr>" + "".join(f"<th>{name}</th>" for name in _State._fields) + "</tr></thead>"
        lines = (f"<tr>{row}</tr>" for row in rows)
        body.append(section("Not done", f'<div class="wide"><table>{head}<tbody>', *lines, "</tbody></table></div>"))
    return page(title, body, _SCRIPT)


def _table(cases: Iterable[tuple[Path, Mapping[str, Any]]], states: Mapping[str, _State]) -> str:
    heads = []
    for column, (name, down) in enumerate(_COLUMNS):
        text = name in _TEXTS
        order = ' aria-sort="descending"' if column == _SORTED_BY else ""
        kind = "" if text else ' class="number"'
        heads.append(
            f'<th{kind} data-kind="{"text" if text else "number"}" data-down="{str(down).lower()}"{order}>'
            f'<button type="button">{escape(name)}</button></th>'
        )
    rows = "\n".join(_row(folder, content, states.get(content["case"])) for folder, content in cases)
    return (
        f'<div class="wide"><table class="sortable"><thead><tr>{"".join(heads)}<th>files</th></tr></thead>'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _row(folder: Path, content: Mapping[str, Any], state: _State | None) -> str:
    files = {kind: name for kind, name in content["files"].items() if kind in _LINKS and Path(name).name == name}
    links = [
        f'<a href="{_link(folder, files[kind])}">{kind}</a>'
        for kind in _LINKS
        if kind in files and (folder / files[kind]).is_file()
    ]
    warnings = content["warnings"]
    numbers = [
        (content["volume_score"], decimal(content["volume_score"])),
        (content["p_value"], decimal(content["p_value"])),
        (content["candidates"], str(content["candidates"])),
        (content["peak"], decimal(content["peak"])),
        (content["volume_ml"], decimal(content["volume_ml"], 2)),
    ]
    name = escape(content["case"])
    cells = [f'<td class="whole" data-value="{name}">{name}</td>']
    status, codes = (escape(state.status), escape(state.codes)) if state else ("done", "")
    cells.append(f'<td data-value="{status}"' + (f' title="{codes}"' if codes else "") + f">{status}</td>")
    cells += [_number(value, text) for value, text in numbers]
    modality = escape(content["modality"])
    cells.append(f'<td data-value="{modality}">{modality or NOTHING}</td>')
    cells.append(_number(len(warnings), str(len(warnings)), "\n".join(warnings)))
    cells.append(f'<td class="whole">{" ".join(links) or NOTHING}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _number(value: float | None, text: str, hint: str = "") -> str:
    title = f' title="{escape(hint)}"' if hint else ""
    return f'<td class="number" data-value="{"" if value is None else repr(value)}"{title}>{text}</td>'


def _link(folder: Path, name: str) -> str:
    # The dot keeps a name with a colon from being taken for the scheme of an address.
    return escape("./" + quote(f"{folder.name}/{name}"))

"""Files about all cases of a run: ``summary.json``, the tables of rows, the index page; and the printed table."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_zsad._version import __version__
from monai_zsad.result_files import INDEX_FILE, INPUT_MARK, STATUS_FOLDER, STATUS_TABLES, SUMMARY_FILE, make_folder
from monai_zsad.writers.files import atomic_path
from monai_zsad.writers.pages.index import write_index
from monai_zsad.writers.status import StatusRow, row_identity, write_tables

__all__ = ["earlier_records", "is_published", "publish", "result_table", "write_summary"]

_MOST_LINES = 20


def write_summary(output_dir: str | os.PathLike[str], cases: Sequence[Mapping[str, Any]]) -> None:
    """Write ``summary.json`` and the page ``index.html``.

    Args:
        output_dir: folder of the run; made if it does not exist.
        cases: records with ``case``, ``status`` (``"done"``, ``"failed"`` or ``"left-out"``), ``volume_score`` or
            ``reason`` and ``codes``, ``seconds``.

    Raises:
        OutputError: if they cannot be written.
    """
    import monai
    import torch

    folder = Path(output_dir).expanduser()
    counts = Counter(record["status"] for record in cases)
    content = {
        "schema_version": 1,
        "done": counts["done"],
        "failed": counts["failed"],
        "left_out": counts["left-out"],
        "cases": list(cases),
        "software": {"monai_zsad": __version__, "monai": monai.__version__, "torch": torch.__version__},
    }
    make_folder(folder)
    with atomic_path(folder / SUMMARY_FILE) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_index(folder)


def publish(output_dir: str | os.PathLike[str], rows: Sequence[StatusRow], keep_earlier: bool = False) -> None:
    """Write ``status.csv`` (and ``status.parquet``), ``summary.json`` and ``index.html`` from rows.

    Args:
        output_dir: folder of the run.
        rows: all rows of the tables, sorted by case.
        keep_earlier: keep the entries of an earlier ``summary.json`` for cases without a row.

    Raises:
        OutputError: if they cannot be written.
    """
    records = [row.summary() for row in rows]
    if keep_earlier:
        earlier = earlier_records(output_dir, {row.case for row in rows})
        # An input that is not a case has a row, unless a later run did not find it any more.
        records = [*(one for one in earlier if not one["case"].startswith(INPUT_MARK)), *records]
    write_tables(output_dir, rows)
    write_summary(output_dir, records)


def is_published(output_dir: str | os.PathLike[str]) -> bool:
    """Whether no row is newer than the page ``index.html``, which :func:`publish` writes last.

    Args:
        output_dir: folder of the run.

    Example:
        >>> import tempfile
        >>> from monai_zsad.writers.status import write_row
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / STATUS_FOLDER).mkdir()
        >>> row = StatusRow("anna", "failed", reason="no memory")
        >>> write_row(folder, row)
        >>> before = is_published(folder)
        >>> publish(folder, [row])
        >>> before, is_published(folder)
        (False, True)
    """
    folder = Path(output_dir).expanduser()
    try:
        written = (folder / INDEX_FILE).stat().st_mtime_ns
    except OSError:
        written = -1
    identities = (row_identity(folder, file.stem) for file in (folder / STATUS_FOLDER).glob("*.json"))
    return all(found is None or found[0] <= written for found in identities)


def earlier_records(output_dir: str | os.PathLike[str], replaced: set[str]) -> list[dict[str, Any]]:
    """Entries of an earlier ``summary.json``, without those of the cases ``replaced``."""
    try:
        content = json.loads((Path(output_dir).expanduser() / SUMMARY_FILE).read_text(encoding="utf-8"))
        return [record for record in content["cases"] if record["case"] not in replaced]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def result_table(cases: Sequence[Mapping[str, Any]], output_dir: object = None) -> str:
    """One line per case; the failed cases come last, with their reasons, and then the inputs that are not cases.

    Example:
        >>> print(result_table([{"case": "anna", "status": "done", "volume_score": 0.5, "seconds": 1.2}]))
        case  result  seconds
        anna  0.500   1.2
        1 done, 0 failed
    """
    inputs = [record for record in cases if record["case"].startswith(INPUT_MARK)]
    own = [record for record in cases if not record["case"].startswith(INPUT_MARK)]
    ordered = sorted(own, key=lambda record: record["status"] == "failed")
    width = max([len("case"), *(len(record["case"]) for record in ordered)])
    results = [f"{record['volume_score']:.3f}" if "volume_score" in record else record["status"] for record in ordered]
    second = max([len("result"), *(len(result) for result in results)])
    lines = [f"{'case':<{width}}  {'result':<{second}}  seconds"]
    for record, result in zip(ordered, results, strict=True):
        lines.append(f"{record['case']:<{width}}  {result:<{second}}  {record['seconds']:.1f}")
    lines += [f"{record['case']}: {record['reason']}" for record in ordered if record["status"] == "failed"]
    lines += [*_inputs("refused", inputs, "failed"), *_inputs("left out", inputs, "left-out")]
    if output_dir is not None:
        lines.append(f"results: {output_dir}")
    counts = Counter(record["status"] for record in cases)
    left_out = f", {counts['left-out']} left out" if counts["left-out"] else ""
    lines.append(f"{counts['done']} done, {counts['failed']} failed{left_out}")
    return "\n".join(lines)


def _inputs(heading: str, inputs: Sequence[Mapping[str, Any]], status: str) -> list[str]:
    """One line for each reason; private inputs have reasons without names, and so perhaps the same."""
    chosen = (record for record in inputs if record["status"] == status)
    counts = Counter(f"{record['reason']} [{' '.join(record['codes'])}]" for record in chosen)
    lines = [f"{heading}: {f'{count} x ' if count > 1 else ''}{text}" for text, count in counts.items()]
    more = [f"{heading}: {len(lines) - _MOST_LINES} more, see {STATUS_TABLES[0]}"] if len(lines) > _MOST_LINES else []
    return lines[:_MOST_LINES] + more

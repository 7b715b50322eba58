"""Files about all cases of a run: ``summary.json``, the tables of rows, the index page; and the printed table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_zsad._version import __version__
from monai_zsad.result_files import SUMMARY_FILE, make_folder
from monai_zsad.writers.files import atomic_path
from monai_zsad.writers.pages.index import write_index
from monai_zsad.writers.status import StatusRow, write_tables

__all__ = ["earlier_records", "publish", "result_table", "write_summary"]


def write_summary(output_dir: str | os.PathLike[str], cases: Sequence[Mapping[str, Any]]) -> None:
    """Write ``summary.json`` and the page ``index.html``.

    Args:
        output_dir: folder of the run; made if it does not exist.
        cases: records with ``case``, ``status`` (``"done"`` or ``"failed"``), ``volume_score`` or ``reason``,
            ``seconds``.

    Raises:
        OutputError: if they cannot be written.
    """
    import monai
    import torch

    folder = Path(output_dir).expanduser()
    failed = sum(record["status"] == "failed" for record in cases)
    content = {
        "schema_version": 1,
        "done": len(cases) - failed,
        "failed": failed,
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
        records = [*earlier_records(output_dir, {row.case for row in rows}), *records]
    write_tables(output_dir, rows)
    write_summary(output_dir, records)


def earlier_records(output_dir: str | os.PathLike[str], replaced: set[str]) -> list[dict[str, Any]]:
    """Entries of an earlier ``summary.json``, without those of the cases ``replaced``."""
    try:
        content = json.loads((Path(output_dir).expanduser() / SUMMARY_FILE).read_text(encoding="utf-8"))
        return [record for record in content["cases"] if record["case"] not in replaced]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def result_table(cases: Sequence[Mapping[str, Any]], output_dir: object = None) -> str:
    """One line per case; the failed cases come last, with their reasons.

    Example:
        >>> print(result_table([{"case": "anna", "status": "done", "volume_score": 0.5, "seconds": 1.2}]))
        case  result  seconds
        anna  0.500   1.2
        1 done, 0 failed
    """
    ordered = sorted(cases, key=lambda record: record["status"] == "failed")
    width = max([len("case"), *(len(record["case"]) for record in ordered)])
    results = [f"{record['volume_score']:.3f}" if "volume_score" in record else record["status"] for record in ordered]
    second = max([len("result"), *(len(result) for result in results)])
    lines = [f"{'case':<{width}}  {'result':<{second}}  seconds"]
    for record, result in zip(ordered, results, strict=True):
        lines.append(f"{record['case']:<{width}}  {result:<{second}}  {record['seconds']:.1f}")
    failures = [record for record in ordered if record["status"] == "failed"]
    lines += [f"{record['case']}: {record['reason']}" for record in failures]
    if output_dir is not None:
        lines.append(f"results: {output_dir}")
    lines.append(f"{len(ordered) - len(failures)} done, {len(failures)} failed")
    return "\n".join(lines)

"""Whether the output folder of a run is whole: every study once, every file as expected, nothing left over."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from monai_zsad.writers import verify_manifest
from monai_zsad.writers.status import STATUS_FOLDER, read_rows

__all__ = ["problems", "results"]


def results(output: Path) -> dict[str, str]:
    """Hash of every file of every case."""
    files = [path for path in output.glob("[!.]*/*") if path.is_file()]
    return {path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def problems(output: Path, expected: Mapping[str, str], bad: Collection[str]) -> list[str]:
    """One sentence for each fault of a finished run.

    Args:
        output: folder of the run.
        expected: what :func:`results` must find.
        bad: cases that must be refused with a code.
    """
    good = {name.split("/")[0] for name in expected}
    found, now = [], results(output)
    found += [f"{name}: missing" for name in sorted(expected.keys() - now.keys())]
    found += [f"{name}: not expected" for name in sorted(now.keys() - expected.keys())]
    found += [
        f"{name}: another content" for name in sorted(expected.keys() & now.keys()) if expected[name] != now[name]
    ]
    rows = {row.case: row for row in read_rows(output)}
    found += [f"{case}: lost, it has no row" for case in sorted({*good, *bad} - rows.keys())]
    found += [f"{case}: a row that is not expected" for case in sorted(rows.keys() - {*good, *bad})]
    for case, row in rows.items():
        if (case in good and not row.is_done) or (case in bad and not (row.status == "refused" and row.codes)):
            found.append(f"{case}: {row.status} {' '.join(row.codes)}")
    found += [f"{case}: {problem}" for case in sorted(good & rows.keys()) for problem in verify_manifest(output, case)]
    with (output / "status.csv").open(encoding="utf-8", newline="") as stream:
        listed = [line["case"] for line in csv.DictReader(stream)]
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    for table, cases in (("status.csv", listed), ("summary.json", [one["case"] for one in summary["cases"]])):
        counts = Counter({case: 0 for case in rows} | Counter(cases))
        found += [f"{case}: {count} times in {table}" for case, count in counts.items() if count != 1]
    if (summary["done"], summary["failed"]) != (len(good), len(bad)):
        found.append(f"summary.json: {summary['done']} done, {summary['failed']} failed")
    kept = {f"{case}.json" for case in rows}
    found += [f"{path.name}: left over" for path in (output / STATUS_FOLDER).iterdir() if path.name not in kept]
    found += [f"{path.name}: left over" for path in output.rglob(".*") if path.name != STATUS_FOLDER]
    return found

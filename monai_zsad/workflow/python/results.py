"""What a call of ``screen`` returns: the cases of a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.result_files import CASE_FILES, INPUT_MARK
from monai_zsad.workflow.python.case import OneScan, Origin, ScreenedCase, Table, as_table, copy_results, summary
from monai_zsad.workflow.python.showing import run_html

__all__ = ["Screened", "read_results"]


@dataclass(frozen=True)
class Screened(OneScan, Mapping[str, ScreenedCase]):
    """Results of a run: a mapping of the cases by name. ``print`` shows them as a table.

    With one scan, it has the attributes of the case, too: ``score``, ``candidates``, ``map``, ``image``, ``labels``,
    ``warnings``, ``files`` and ``show()``. Without an ``output_dir``, the results are in a temporary folder. It is
    removed when neither this object nor one of its cases is used any more; :meth:`save` keeps them.

    Attributes:
        folder: folder of the results. Its ``index.html`` has links to all of them.
        cases: the cases of the run by name. With ``resume=True`` also the cases that were complete before.
        complete: whether every scan of this run has results, and no other input was refused.
        inputs: what is not a case, by its id: refused or left out when the scans were found. Each has a ``reason``.
    """

    folder: Path
    cases: Mapping[str, ScreenedCase]
    complete: bool
    inputs: Mapping[str, ScreenedCase] = field(default_factory=dict)

    @property
    def failed(self) -> list[ScreenedCase]:
        """The scans and other inputs that were refused or failed. Each has a ``reason``."""
        every = [*self.cases.values(), *self.inputs.values()]
        return [case for case in every if case.status in ("refused", "failed")]

    @property
    def files(self) -> Mapping[str, Path]:
        """Path of each result of the one scan."""
        return self._one.files

    @property
    def table(self) -> Table:
        """One row for each case, and for each input that is not a case: ``pandas.DataFrame`` or list of dictionaries.

        The columns are ``case``, ``status``, ``score``, ``candidates`` (how many), ``codes``, ``reason`` and
        ``seconds``.
        """
        every = [*self.cases.values(), *self.inputs.values()]
        return as_table([_row(case) for case in every], tuple(_COLUMNS))

    def save(self, folder: str | Path) -> Path:
        """Copy all results.

        Args:
            folder: for the copy; it is made if it does not exist.

        Returns:
            The folder.

        Raises:
            OutputError: if one of the files exists there, or cannot be written.
        """
        target = Path(folder).expanduser()
        copy_results(self.folder, target)
        return target

    def __getitem__(self, case: str) -> ScreenedCase:
        return self.cases[case]

    def __iter__(self) -> Iterator[str]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"Screened({self._summary})"

    def __str__(self) -> str:
        from monai_zsad.writers.run_tables import earlier_records, result_table

        return result_table(earlier_records(self.folder, set()), self.folder)

    def _repr_html_(self) -> str:
        if len(self.cases) == 1:
            return next(iter(self.cases.values()))._repr_html_()
        return run_html(self._summary, [_row(case) for case in self._told])

    @property
    def _told(self) -> list[ScreenedCase]:
        """The cases, and the inputs that were refused."""
        return [*self.cases.values(), *(one for one in self.inputs.values() if one.status == "refused")]

    @property
    def _summary(self) -> str:
        if len(self.cases) == 1:
            return summary(next(iter(self.cases.values())))
        counts = Counter(case.status for case in self._told)
        return f"{len(self.cases)} scans: " + ", ".join(f"{count} {status}" for status, count in counts.items())

    @property
    def _one(self) -> ScreenedCase:
        if len(self.cases) == 1:
            return next(iter(self.cases.values()))._one
        if self.cases:
            some = next(iter(self.cases))
            raise ConfigurationError(
                f"the result has {len(self.cases)} scans, so ask one of them, for example result[{some!r}].score"
            )
        reasons = [case.reason for case in self.failed] or ["no scan was found"]
        raise InputError(f"there are no results: {reasons[0]}")


_COLUMNS: Mapping[str, Callable[[ScreenedCase], Any]] = {
    "case": lambda case: case.case,
    "status": lambda case: case.status,
    "score": lambda case: case.volume_score,
    "candidates": lambda case: len(case.findings["candidates"]) if case.is_done else None,
    "codes": lambda case: " ".join(case.codes),
    "reason": lambda case: case.reason,
    "seconds": lambda case: case.seconds,
}


def read_results(folder: Path, complete: bool, origin: Origin) -> Screened:
    """The results in the folder of a run.

    Args:
        folder: of the run.
        complete: whether every scan has results.
        origin: of the results.
    """
    from monai_zsad.writers.run_tables import earlier_records
    from monai_zsad.writers.status import StatusRow, read_row

    cases: dict[str, ScreenedCase] = {}
    inputs: dict[str, ScreenedCase] = {}
    for record in earlier_records(folder, set()):
        case = str(record["case"])
        row = read_row(folder, case) or StatusRow(
            case, record["status"], (), record.get("reason", ""), record.get("volume_score"), record["seconds"]
        )
        files: dict[str, Path] = {}
        findings = folder / case / CASE_FILES["findings"].name
        if row.is_done and findings.is_file():
            named = json.loads(findings.read_text(encoding="utf-8"))["files"]
            files = {kind: findings.parent / name for kind, name in named.items()} | {"findings": findings}
        one = ScreenedCase(case, row.status, row.volume_score, row.reason, row.codes, row.seconds, files, origin)
        (inputs if case.startswith(INPUT_MARK) else cases)[case] = one
    return Screened(folder, cases, complete, inputs)


def _row(case: ScreenedCase) -> dict[str, Any]:
    return {name: value(case) for name, value in _COLUMNS.items()}

"""The status of each case: one small file for each, and the tables made from these files."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from monai_zsad.errors import OutputError
from monai_zsad.result_files import STATUS_FOLDER, STATUS_TABLES, final_name, temporary_name
from monai_zsad.writers.files import atomic_path

__all__ = [
    "STATES",
    "STATUS_FOLDER",
    "UNFAMILIAR",
    "StatusRow",
    "read_row",
    "read_rows",
    "remove_rows",
    "row_identity",
    "write_row",
    "write_tables",
]

STATES = ("done", "repaired", "refused", "failed", "left-out")
"""Done; done with warning codes, except :data:`UNFAMILIAR` (repaired); refused by a check of the input; failed for
another reason; an input that is not a scan and was left out on purpose."""


UNFAMILIAR = "unfamiliar"
"""Code of a case that is outside of what the model was trained on. It is done, not repaired."""


@dataclass(frozen=True)
class StatusRow:
    """The status of a case, or of an input that is not a case: what was left out or refused when the scans were found.

    Attributes:
        case: its id; of an input that is not a case, it begins with :data:`~monai_zsad.result_files.INPUT_MARK`.
        status: one of :data:`STATES`.
        codes: codes of warnings (:data:`monai_zsad.data.REPAIRS`), of the refusal (:data:`monai_zsad.data.REFUSALS`)
            or of what was left out (:data:`monai_zsad.data.LEFT_OUT`); ``"out-of-memory"`` and ``"worker-lost"`` for
            failures.
        reason: one sentence for everything that is not done.
        volume_score: volume score of a finished case, in [0, 1].
        seconds: time from the end of the previous case to the end of this case.
        parts: seconds of each step, see :class:`~monai_zsad.workflow.profiling.StudyProfiler`.
        run: name of the run that wrote the row.
        settings: hash of the model and the settings that made the results; empty if it is not known.
    """

    case: str
    status: str
    codes: tuple[str, ...] = ()
    reason: str = ""
    volume_score: float | None = None
    seconds: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)
    run: str = ""
    settings: str = ""

    @property
    def is_done(self) -> bool:
        """Whether there are results."""
        return self.status in ("done", "repaired")

    @property
    def has_failed(self) -> bool:
        """Whether the user wants to have results, and there are none."""
        return self.status in ("refused", "failed")

    def summary(self) -> dict[str, Any]:
        """The entry in ``summary.json``: a refused case counts as failed, a repaired case as done."""
        status = "done" if self.is_done else "failed" if self.has_failed else self.status
        record: dict[str, Any] = {"case": self.case, "status": status}
        if not self.is_done:
            record |= {"reason": self.reason, "codes": list(self.codes)}
        elif self.volume_score is not None:
            record["volume_score"] = self.volume_score
        if UNFAMILIAR in self.codes:
            record["unfamiliar"] = True
        return record | {"seconds": self.seconds}


def _file(output_dir: str | os.PathLike[str], case: str) -> Path:
    return Path(output_dir).expanduser() / STATUS_FOLDER / f"{case}.json"


def write_row(output_dir: str | os.PathLike[str], row: StatusRow) -> None:
    """Write the row of a case; it replaces an older row.

    Raises:
        OutputError: if it cannot be written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> (Path(folder) / STATUS_FOLDER).mkdir()
        >>> write_row(folder, StatusRow("anna", "done", volume_score=0.25))
        >>> read_row(folder, "anna").volume_score
        0.25
    """
    file = _file(output_dir, row.case)
    temporary = file.with_name(temporary_name(file.name))
    try:
        # Faster than atomic_path, which waits for the disk. A row that is empty after a power failure is ignored.
        temporary.write_text(json.dumps(asdict(row)) + "\n", encoding="utf-8")
        os.replace(temporary, file)
    except OSError as error:
        raise OutputError(
            f"{file}: cannot be written ({error.strerror}); free space or permission, or give another --output_dir"
        ) from error


def read_row(output_dir: str | os.PathLike[str], case: str) -> StatusRow | None:
    """The row of a case; None if it is missing or cannot be read."""
    return _read(_file(output_dir, case))


def read_rows(output_dir: str | os.PathLike[str]) -> list[StatusRow]:
    """All rows in a folder, sorted by case."""
    files = sorted((Path(output_dir).expanduser() / STATUS_FOLDER).glob("*.json"))
    found = (_read(file) for file in files if final_name(file.name) is None)
    return [row for row in found if row is not None]


def remove_rows(output_dir: str | os.PathLike[str], mark: str, keep: Collection[str] = ()) -> None:
    """Remove the rows of the ids that begin with ``mark``, except for those to keep."""
    for file in (Path(output_dir).expanduser() / STATUS_FOLDER).glob("*.json"):
        if file.stem.startswith(mark) and file.stem not in keep:
            file.unlink(missing_ok=True)


def row_identity(output_dir: str | os.PathLike[str], case: str) -> tuple[int, int] | None:
    """A value that changes when the row of a case is written again; None if there is no row."""
    try:
        facts = _file(output_dir, case).stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_ino


def _read(file: Path) -> StatusRow | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return StatusRow(**{**content, "codes": tuple(content["codes"])})
    except (OSError, ValueError, TypeError, LookupError):
        return None


def write_tables(output_dir: str | os.PathLike[str], rows: Sequence[StatusRow]) -> list[Path]:
    """Write ``status.csv``, and ``status.parquet`` if pyarrow is installed: one line per case or other input.

    Args:
        output_dir: folder of the run.
        rows: rows in the order of the table.

    Returns:
        The files.

    Raises:
        OutputError: if they cannot be written.

    Example:
        >>> import tempfile
        >>> file = write_tables(tempfile.mkdtemp(), [StatusRow("anna", "refused", ("empty-file",), "is empty")])[0]
        >>> print(file.read_text().strip())
        case,status,codes,reason,volume_score,seconds
        anna,refused,empty-file,is empty,,0.0
    """
    folder = Path(output_dir).expanduser()
    parts = list(dict.fromkeys(part for row in rows for part in row.parts))
    lines = [_line(row, parts) for row in rows]
    names = ["case", "status", "codes", "reason", "volume_score", "seconds", *(f"{part}_seconds" for part in parts)]
    table = folder / STATUS_TABLES[0]
    with atomic_path(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(value) for value in line] for line in lines)
    if find_spec("pyarrow") is None:
        return [table]
    _write_parquet(folder / STATUS_TABLES[1], names, lines)
    return [table, folder / STATUS_TABLES[1]]


def _line(row: StatusRow, parts: Iterable[str]) -> list[Any]:
    own = [row.parts.get(part) for part in parts]
    return [row.case, row.status, list(row.codes), row.reason, row.volume_score, row.seconds, *own]


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(value)
    # A spreadsheet would read this text as a formula.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def _write_parquet(file: Path, names: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    kinds = [pyarrow.string(), pyarrow.string(), pyarrow.list_(pyarrow.string()), pyarrow.string()]
    kinds += [pyarrow.float64()] * (len(names) - len(kinds))
    columns = list(zip(*lines, strict=True)) or [()] * len(names)
    arrays = [pyarrow.array(list(column), kind) for column, kind in zip(columns, kinds, strict=True)]
    with atomic_path(file) as temporary:
        parquet.write_table(pyarrow.Table.from_arrays(arrays, names=list(names)), temporary)

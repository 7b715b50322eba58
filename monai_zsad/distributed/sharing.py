"""The share of one process in a run: the cases that it takes, and the rows that it writes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai_zsad.data import FoundScans
from monai_zsad.distributed.claims import Claims
from monai_zsad.distributed.ranks import Rank, current_rank
from monai_zsad.errors import OutputError
from monai_zsad.result_files import INPUT_MARK, RUN_FILES, final_name
from monai_zsad.writers.status import StatusRow, read_row, read_rows, remove_rows, row_identity, write_row

__all__ = ["MAX_DEATHS", "Share", "clean_case"]

MAX_DEATHS = 3
"""A case has failed when so many processes of one run have died while they ran it."""

_TABLES = ".tables"
_POLL_SECONDS = 0.5
# What this package writes in the output folder itself, under the temporary names of atomic_path.

_logger = logging.getLogger(__name__)


class Share:
    """The cases of a run that this process takes, while other processes may work in the same folder.

    MONAI's evaluators run over all cases that they are given. Here every process is given all cases. :meth:`take`, the
    ``gate`` of a :class:`~monai_zsad.data.ScreeningDataset`, passes a case if no other process has taken it, and if it
    was not finished since this run began. If a process died while it ran a case, that case is run last, alone and
    without loading ahead: if a process dies again, this case is the reason. After :data:`MAX_DEATHS` the case has
    failed.

    Args:
        output_dir: folder of the run.
        records: all cases to be run, each with ``case``.
        resume: keep rows of earlier runs in the tables.
        settings: hash of the settings that decide the results.

    Attributes:
        found: what the search found, of which the tables show what was left out.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> share = Share(folder, [{"case": "anna"}, {"case": "ben"}])
        >>> with share.opened():
        ...     taken = share.take("anna")
        ...     share.finish(StatusRow("anna", "done"))
        ...     taken, share.take("anna"), [record["case"] for record in share.remaining()]
        (True, False, ['ben'])
        >>> [row.case for row in share.rows()]
        ['anna']
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        records: Sequence[Mapping[str, Any]],
        resume: bool = False,
        settings: str = "",
    ) -> None:
        self.folder = Path(output_dir).expanduser()
        self.records = list(records)
        self.found = records if isinstance(records, FoundScans) else FoundScans()
        self.resume = resume
        self.settings = settings
        self.rank: Rank = current_rank()
        self.one_by_one = False
        self.claims = Claims(self.folder)
        self._open = list(records)
        self._before: dict[str, tuple[int, int] | None] = {}

    def plan(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Set the cases to be run, before the share is opened."""
        self.records, self._open = list(records), list(records)

    def mark_start(self) -> None:
        """Count every row that is written from now on as a row of this run."""
        cases = (str(record["case"]) for record in self.records)
        self._before = {case: row_identity(self.folder, case) for case in cases}

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Within the block, other processes see that this process lives, and it may take cases.

        Raises:
            OutputError: if a run with other settings works in the folder.
        """
        # Before the ranks wait for each other, when none of them has begun.
        self.mark_start()
        self.claims = Claims(self.folder, self.rank.agree_on_run(), self.settings, tidy=self.rank.is_leader)
        with self.claims:
            if others := [one for one in self.claims.others() if one.settings != self.settings]:
                raise OutputError(
                    f"{self.folder}: another run with other settings works in this folder (process {others[0].pid} on "
                    f"{others[0].host.split()[0]}); give another --output_dir, or wait until that run ends"
                )
            yield

    @property
    def run(self) -> str:
        """Name of the run."""
        return self.claims.owner.run

    def take(self, case: str) -> bool:
        """Claim a case, unless another process has it, or it was finished since this run began."""
        if self.is_finished(case):
            return False
        if self.claims.take(case, after_death=self.one_by_one) is None:
            return False
        if self.is_finished(case):
            self.claims.release(case)
            return False
        clean_case(self.folder, case)
        return True

    def is_finished(self, case: str) -> bool:
        """Whether a process has written the case's row since this run began."""
        now = row_identity(self.folder, case)
        if now is None:
            return False
        if now != self._before.get(case):
            return True
        row = read_row(self.folder, case)
        return row is not None and row.run == self.run

    def finish(self, row: StatusRow) -> None:
        """Write the row of a case and release the case."""
        write_row(self.folder, row)
        self.claims.release(row.case)

    def remaining(self) -> list[Mapping[str, Any]]:
        """Records of cases that are not finished and that no living process has; others may take them at any time.

        A case with which too many processes have died is finished here, as failed.
        """
        self._open = [record for record in self._open if not self.is_finished(str(record["case"]))]
        free = [record for record in self._open if not self.claims.is_held(str(record["case"]))]
        found = []
        for record in free:
            case = str(record["case"])
            if self.claims.deaths(case, self.run) < MAX_DEATHS:
                found.append(record)
            elif self.claims.take(case) is not None:
                reason = (
                    f"the process that ran it was killed, {MAX_DEATHS} times: the memory may be too small; use a "
                    "smaller batch_size, or a machine with more memory"
                )
                _logger.error("%s failed: %s", case, reason)
                self.finish(StatusRow(case, "failed", ("worker-lost",), reason, run=self.run))
        return found

    def wait_for_others(self, always: bool = False) -> bool:
        """Pause if this process must wait until other ranks have finished their cases; False if it need not wait.

        Args:
            always: wait in every process, since the next step needs all cases.
        """
        is_waiting = self.rank.is_leader and self.rank.world_size > 1
        if not (always or is_waiting) or not self._open:
            return False
        self.pause()
        return True

    def pause(self) -> None:
        """Let other processes work."""
        time.sleep(_POLL_SECONDS)

    def inputs(self) -> list[StatusRow]:
        """A row for each input that is not a case, because it was left out or refused when the scans were found."""
        return [
            StatusRow(
                one.case,
                "refused" if one.is_refused else "left-out",
                (one.code,),
                one.sentence if str(one.path) == one.case else f"{one.path}: {one.sentence}",
                run=self.run,
            )
            for one in self.found.left_out
        ]

    def write_inputs(self) -> None:
        """Write the rows of :meth:`inputs`, in the place of those of earlier searches at the same path."""
        rows = self.inputs()
        if self.found.mark:
            remove_rows(self.folder, self.found.mark, keep={row.case for row in rows})
        for row in rows:
            write_row(self.folder, row)

    def rows(self) -> list[StatusRow]:
        """Rows for the tables, first of cases, then of other inputs; with ``resume`` also those of earlier runs."""
        if self.resume:
            found = read_rows(self.folder)
        else:
            finished = [case for case in self._before if self.is_finished(case)]
            found = [row for case in finished if (row := read_row(self.folder, case))] + self.inputs()
        return sorted(found, key=lambda row: (row.case.startswith(INPUT_MARK), row.case))

    @contextmanager
    def tables(self) -> Iterator[None]:
        """Within the block, no other process writes the tables of the folder."""
        with _alone_at_tables(self.claims):
            yield


@contextmanager
def _alone_at_tables(claims: Claims) -> Iterator[None]:
    while claims.take(_TABLES) is None:
        time.sleep(_POLL_SECONDS / 5)
    try:
        _clean_tables(claims)
        yield
    finally:
        claims.release(_TABLES)


def _clean_tables(claims: Claims) -> None:
    """Remove temporary files of the tables, which only this process writes now, and of rows that nobody writes."""
    for path in claims.folder.parent.iterdir():
        if _temporary(path) in RUN_FILES:
            path.unlink(missing_ok=True)
    for path in claims.folder.iterdir():
        name = _temporary(path)
        if name.endswith(".json") and not claims.is_held(name.removesuffix(".json")):
            path.unlink(missing_ok=True)


def _temporary(path: Path) -> str:
    """Name of the file that a temporary one was to become; empty for other files."""
    name = final_name(path.name)
    return name if name and path.is_file() and not path.is_symlink() else ""


def clean_case(output_dir: str | os.PathLike[str], case: str) -> list[Path]:
    """Remove the temporary files that a killed process left of a case; no other process may be running the case.

    :func:`monai_zsad.writers.clean_temporaries` cleans the complete folder, also files that a living process is
    writing.

    Returns:
        The removed files.

    Raises:
        OutputError: if a file cannot be removed.
    """
    folder = Path(output_dir).expanduser()
    removed = []
    try:
        for path in (folder / case).iterdir():
            if _temporary(path):
                path.unlink(missing_ok=True)
                removed.append(path)
    except (FileNotFoundError, NotADirectoryError):
        # A file in place of the folder makes the case fail when it is written.
        return removed
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder}: left by an interrupted run, cannot be removed ({error.strerror}); remove it"
        ) from error
    for path in removed:
        _logger.info("removed %s, left by an interrupted run", path)
    return removed

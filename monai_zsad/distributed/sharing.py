"""A process' share of a run: the cases that it takes, and the rows that it writes."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai_zsad.distributed.claims import Claims
from monai_zsad.distributed.ranks import Place, place
from monai_zsad.errors import OutputError
from monai_zsad.writers.status import StatusRow, read_row, read_rows, row_identity, write_row

__all__ = ["MAX_DEATHS", "Share", "clean_case"]

MAX_DEATHS = 3
"""So often may processes of one run die with a case in hand; then the case has failed."""

_TABLES = ".tables"
_POLL_SECONDS = 0.5
# What this package writes in the output folder itself, under the temporary names of atomic_path.
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\.(?P<name>.+)", re.DOTALL)
_OWN_FILES = ("summary.json", "index.html", "status.csv", "status.parquet")

_logger = logging.getLogger(__name__)


class Share:
    """The part of a run's cases that this process runs, among others that may work in the same folder.

    MONAI's evaluators iterate over what they are given. Here every process is given all cases, and :meth:`take`, the
    ``gate`` of a :class:`~monai_zsad.data.ScreeningDataset`, lets those pass that no other process has taken and none
    has settled since this run began. A case in whose midst a process has died is run last, by itself,
    with nothing loaded ahead: if it kills again, it was that case. After :data:`MAX_DEATHS` it counts as failed.

    Args:
        output_dir: folder of the run.
        records: all cases of the run that are to be run, each with ``case``.
        resume: rows of earlier runs stay in the tables.
        settings: hash of what decides the results.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> share = Share(folder, [{"case": "anna"}, {"case": "ben"}])
        >>> with share.opened():
        ...     taken = share.take("anna")
        ...     share.settle(StatusRow("anna", "done"))
        ...     taken, share.take("anna"), [record["case"] for record in share.left()]
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
        self.resume = resume
        self.settings = settings
        self.place: Place = place()
        self.by_itself = False
        self.claims = Claims(self.folder)
        self._open = list(records)
        self._before: dict[str, tuple[int, int] | None] = {}

    def plan(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Set the cases that are to be run, before the share is opened."""
        self.records, self._open = list(records), list(records)

    def watch(self) -> None:
        """From now on, a row that is written is this run's."""
        cases = (str(record["case"]) for record in self.records)
        self._before = {case: row_identity(self.folder, case) for case in cases}

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Within the block, this process lives in the eyes of others and may take cases.

        Raises:
            OutputError: if a run with other settings is at work in the folder.
        """
        # Before the ranks meet, so that none has begun.
        self.watch()
        self.claims = Claims(self.folder, self.place.agree(), self.settings, tidy=self.place.leads)
        with self.claims:
            if others := [one for one in self.claims.others() if one.settings != self.settings]:
                raise OutputError(
                    f"{self.folder}: another run with other settings is at work there (process {others[0].pid} on "
                    f"{others[0].host.split()[0]}); give another --output_dir, or wait for its end"
                )
            yield

    @property
    def run(self) -> str:
        """Name of the run."""
        return self.claims.owner.run

    def take(self, case: str) -> bool:
        """Claim a case, unless another process has it, or has settled it since this run began."""
        if self.settled(case):
            return False
        if self.claims.take(case, after_death=self.by_itself) is None:
            return False
        if self.settled(case):
            self.claims.release(case)
            return False
        clean_case(self.folder, case)
        return True

    def settled(self, case: str) -> bool:
        """Whether a process has written the case's row since this run began."""
        now = row_identity(self.folder, case)
        if now is None:
            return False
        if now != self._before.get(case):
            return True
        row = read_row(self.folder, case)
        return row is not None and row.run == self.run

    def settle(self, row: StatusRow) -> None:
        """Write a case's row and give the case up."""
        write_row(self.folder, row)
        self.claims.release(row.case)

    def left(self) -> list[Mapping[str, Any]]:
        """Records that are not settled, and that no living process has. Some may be taken before one comes to them.

        A case with which too many processes have died is settled here.
        """
        self._open = [record for record in self._open if not self.settled(str(record["case"]))]
        free = [record for record in self._open if not self.claims.is_held(str(record["case"]))]
        found = []
        for record in free:
            case = str(record["case"])
            if self.claims.deaths(case, self.run) < MAX_DEATHS:
                found.append(record)
            elif self.claims.take(case) is not None:
                reason = (
                    f"the process that ran it was killed, {MAX_DEATHS} times: memory may not suffice; use a smaller "
                    "batch_size, or a machine with more memory"
                )
                _logger.error("%s failed: %s", case, reason)
                self.settle(StatusRow(case, "failed", ("worker-lost",), reason, run=self.run))
        return found

    @property
    def waits(self) -> bool:
        """Whether others are still at work on cases, which this process must see to the end; pauses if so."""
        if not self.place.leads or self.place.world == 1 or not self._open:
            return False
        time.sleep(_POLL_SECONDS)
        return True

    def rows(self) -> list[StatusRow]:
        """Rows that this run's tables hold, by case: of its cases, and of earlier runs if it resumes them."""
        if self.resume:
            return read_rows(self.folder)
        return [row for case in sorted(self._before) if self.settled(case) and (row := read_row(self.folder, case))]

    @contextmanager
    def tables(self) -> Iterator[None]:
        """Within the block, no other process writes the folder's tables."""
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
    """Remove temporary files of tables, which this process alone writes now, and of rows that nobody writes."""
    for path in claims.folder.parent.iterdir():
        if _temporary(path) in _OWN_FILES:
            path.unlink(missing_ok=True)
    for path in claims.folder.iterdir():
        name = _temporary(path)
        if name.endswith(".json") and not claims.is_held(name.removesuffix(".json")):
            path.unlink(missing_ok=True)


def _temporary(path: Path) -> str:
    """Name of the file that a temporary one was to become; empty for other files."""
    match = _TEMPORARY.fullmatch(path.name)
    return match["name"] if match and path.is_file() and not path.is_symlink() else ""


def clean_case(output_dir: str | os.PathLike[str], case: str) -> list[Path]:
    """Remove what a killed process left of a case under temporary names; no other process may be at work on it.

    :func:`monai_zsad.writers.clean_temporaries` cleans the whole folder, also what a living process writes just now.

    Returns:
        the files that were removed.

    Raises:
        OutputError: if one cannot be removed.
    """
    folder = Path(output_dir).expanduser()
    removed = []
    try:
        for path in (folder / case).iterdir():
            if _temporary(path).startswith(f"{case}_"):
                path.unlink(missing_ok=True)
                removed.append(path)
    except FileNotFoundError:
        return removed
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder}: left by an interrupted run, cannot be removed ({error.strerror}); remove it"
        ) from error
    for path in removed:
        _logger.info("removed %s, left by an interrupted run", path)
    return removed

"""The launcher: it starts the workers of a run, watches them, and replaces those that die."""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from monai_zsad.data import is_query
from monai_zsad.distributed.claims import Claims
from monai_zsad.distributed.sharing import Share
from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.result_files import STATUS_FOLDER, final_name
from monai_zsad.writers.run_tables import publish
from monai_zsad.writers.status import StatusRow, read_row, read_rows, row_identity

__all__ = ["Job", "Workers", "absolute", "launch"]

_MAX_FRUITLESS = 3
_POLL_SECONDS = 0.5

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """The job of each worker.

    Attributes:
        config_file: the bundle's ``inference.yaml``.
        settings: values by id that replace those of the file, among them ``dataset_dir`` and ``output_dir``.
        run: name of the run.
    """

    config_file: str
    settings: Mapping[str, Any]
    run: str


class Workers(Protocol):
    """How workers are started and watched."""

    def start(self, number: int, job: Job) -> None:
        """Start the worker with this number."""

    def wait(self, seconds: float) -> tuple[int, str] | None:
        """Number of a worker that has ended, and ``"done"``, ``"refused"`` (it has printed why) or ``"died"``.

        Args:
            seconds: to wait at most. None if no worker has ended until then.
        """

    def stop(self) -> None:
        """End all workers that still run."""


def launch(
    make_workers: Callable[[], Workers],
    count: int,
    config_file: str,
    settings: Mapping[str, Any],
    find: Callable[[], Sequence[Any]],
    tell: Callable[[StatusRow], None],
) -> bool:
    """Run a bundle with several workers that share its cases, and write the tables of the run.

    A worker that dies is replaced. Its case is run again, until
    :data:`~monai_zsad.distributed.sharing.MAX_DEATHS` workers have died with it. The run ends if several workers die
    one after the other and no case is finished in between.

    Args:
        make_workers: makes the object that starts the workers.
        count: number of workers, at least 1.
        config_file: the bundle's ``inference.yaml``.
        settings: as for ``monai.bundle.run``.
        find: finds the cases, as :func:`~monai_zsad.data.find_scans` does, and raises if the output folder cannot take
            their results; called once, before the workers start.
        tell: is called with the row of each case that the workers have finished, soon after it, and at the end with the
            row of each input that is not a case.

    Returns:
        Whether every case of the run is done, and no input was refused.

    Raises:
        ConfigurationError: if the scans are a DICOMweb query, as each worker would retrieve them.
        OutputError: if workers die independently of the cases, or a worker refuses the job.
    """
    if is_query(str(settings["dataset_dir"])):
        raise ConfigurationError(
            "a DICOMweb query cannot be shared among workers: retrieve it with one worker and --download FOLDER, then "
            "screen that folder"
        )
    job = Job(config_file, settings, uuid.uuid4().hex)
    resume = any(str(settings.get(key, False)).lower() == "true" for key in ("resume", "retry_failed"))
    share = Share(settings["output_dir"], find(), resume)
    share.mark_start()
    fruitless, finished = 0, 0
    running = set(range(count))
    news = _News(share.folder, job.run, tell)
    workers = make_workers()
    try:
        for number in running:
            workers.start(number, job)
        while running:
            ended = workers.wait(_POLL_SECONDS)
            news.look()
            if ended is None:
                continue
            number, end = ended
            if end == "refused":
                raise OutputError("a worker could not start: its own message above says why and what to do")
            if end == "done":
                running.remove(number)
                continue
            now = sum(row.run == job.run for row in read_rows(share.folder))
            fruitless, finished = (0 if now > finished else fruitless + 1), now
            if fruitless >= _MAX_FRUITLESS:
                raise OutputError(
                    f"{share.folder}: {fruitless} workers died in succession, and no case was finished in between: "
                    "see their messages above, then continue with --resume; finished cases are kept"
                )
            _logger.warning("worker %d died: a new one replaces it", number)
            workers.start(number, job)
    finally:
        workers.stop()
    rows = _conclude(share, job.run)
    own = [row for row in rows if row.run == job.run]
    for row in own:
        news.tell(row)
    return not any(row.has_failed for row in own)


class _News:
    """Finds the rows that the workers have written since the last look."""

    def __init__(self, folder: Path, run: str, tell: Callable[[StatusRow], None]) -> None:
        self.folder = folder
        self.run = run
        self._tell = tell
        self._told = set[str]()
        self._changed = -1
        self._known = dict(self._identities())

    def look(self) -> None:
        """Tell of the new rows. A look at a folder in which nothing has changed is cheap."""
        with contextlib.suppress(FileNotFoundError):
            changed = (self.folder / STATUS_FOLDER).stat().st_mtime_ns
            if changed == self._changed:
                return
            self._changed = changed
        for case, identity in self._identities():
            if self._known.get(case) != identity:
                self._known[case] = identity
                if (row := read_row(self.folder, case)) is not None and row.run == self.run:
                    self.tell(row)

    def tell(self, row: StatusRow) -> None:
        """Tell of a row, once."""
        if row.case not in self._told:
            self._told.add(row.case)
            self._tell(row)

    def _identities(self) -> list[tuple[str, tuple[int, int]]]:
        try:
            with os.scandir(self.folder / STATUS_FOLDER) as entries:
                names = [entry.name for entry in entries if entry.name.endswith(".json")]
        except FileNotFoundError:
            return []
        cases = (name.removesuffix(".json") for name in names if final_name(name) is None)
        return [(case, found) for case in cases if (found := row_identity(self.folder, case)) is not None]


def _conclude(share: Share, run: str) -> list[StatusRow]:
    share.claims = Claims(share.folder, run)
    with share.claims, share.tables():
        share.write_inputs()
        rows = share.rows()
        publish(share.folder, rows, keep_earlier=share.resume)
    return rows


def absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with absolute paths, for workers that start in another folder.

    Example:
        >>> found = absolute({"output_dir": "out", "plane": "axial"})
        >>> Path(found["output_dir"]).is_absolute(), found["plane"]
        (True, 'axial')
    """
    own = {"bundle_root", "dataset_dir", "output_dir", "calibration", "case_key", "download_dir"}
    own |= {"reference", "features_dir"}
    own -= {"dataset_dir"} if is_query(str(settings.get("dataset_dir"))) else set()
    return {
        key: str(Path(value).expanduser().absolute())
        if isinstance(value, str) and (key in own or (key.startswith("weights#") and Path(value).exists()))
        else value
        for key, value in settings.items()
    }

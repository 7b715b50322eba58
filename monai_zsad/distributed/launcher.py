"""A run by several workers that a leading process starts, watches and, where they die, replaces."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from monai_zsad.data import is_query
from monai_zsad.distributed.claims import Claims
from monai_zsad.distributed.sharing import Share
from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.writers.run_tables import publish, result_table
from monai_zsad.writers.status import StatusRow, read_rows

__all__ = ["Crew", "Order", "absolute", "lead"]

_MAX_FRUITLESS = 3

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What each worker does.

    Attributes:
        config_file: the bundle's ``inference.yaml``.
        settings: values by id that replace those of the file, among them ``dataset_dir`` and ``output_dir``.
        run: name of the run.
    """

    config_file: str
    settings: Mapping[str, Any]
    run: str


class Crew(Protocol):
    """How workers are started and watched."""

    def start(self, number: int, order: Order) -> None:
        """Start the worker of this number."""

    def wait(self) -> tuple[int, str]:
        """Number of a worker that has ended, and how: ``"done"``, ``"refused"`` (it has said why) or ``"died"``."""

    def stop(self) -> None:
        """End all workers that are left."""


def lead(
    make_crew: Callable[[], Crew],
    workers: int,
    config_file: str,
    settings: Mapping[str, Any],
    find: Callable[[], Sequence[Any]],
) -> bool:
    """Run a bundle by workers that share its cases, and write the tables of the run.

    A worker that dies is replaced; the case in its hand is run again, but not more than
    :data:`~monai_zsad.distributed.sharing.MAX_DEATHS` times. If several die without a single case being settled, the
    run ends.

    Args:
        make_crew: gives what starts workers.
        workers: how many, at least 1.
        config_file: the bundle's ``inference.yaml``.
        settings: as for ``monai.bundle.run``.
        find: looks for the cases, and refuses what would fail or overwrite; called once, before the workers start.

    Returns:
        Whether every case of the run is done.

    Raises:
        ConfigurationError: if the scans are a query, which each worker would retrieve.
        OutputError: if workers die for no fault of a case, or refuse to work.
    """
    if is_query(str(settings["dataset_dir"])):
        raise ConfigurationError(
            "a DICOMweb query cannot be shared among workers: retrieve it with one worker and --download FOLDER, then "
            "screen that folder"
        )
    order = Order(config_file, settings, uuid.uuid4().hex)
    resume = any(str(settings.get(key, False)).lower() == "true" for key in ("resume", "retry_failed"))
    share = Share(settings["output_dir"], find(), resume)
    share.watch()
    fruitless, settled = 0, 0
    at_work = set(range(workers))
    crew = make_crew()
    try:
        for number in at_work:
            crew.start(number, order)
        while at_work:
            number, end = crew.wait()
            if end == "refused":
                raise OutputError("a worker could not start; its own words stand above")
            if end == "done":
                at_work.remove(number)
                continue
            now = sum(row.run == order.run for row in read_rows(share.folder))
            fruitless, settled = (0 if now > settled else fruitless + 1), now
            if fruitless >= _MAX_FRUITLESS:
                raise OutputError(
                    f"{share.folder}: {fruitless} workers died one after the other, with no case settled between: see "
                    "their last words above; what is done stays, --resume goes on"
                )
            _logger.warning("worker %d died: another takes its place", number)
            crew.start(number, order)
    finally:
        crew.stop()
    rows = _conclude(share, order.run)
    own = [row for row in rows if row.run == order.run]
    print(result_table([row.summary() for row in own], share.folder))
    return all(row.is_done for row in own)


def _conclude(share: Share, run: str) -> list[StatusRow]:
    share.claims = Claims(share.folder, run)
    with share.claims, share.tables():
        rows = share.rows()
        publish(share.folder, rows, keep_earlier=share.resume)
    return rows


def absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with absolute paths, for workers that start elsewhere.

    Example:
        >>> found = absolute({"output_dir": "out", "plane": "axial"})
        >>> Path(found["output_dir"]).is_absolute(), found["plane"]
        (True, 'axial')
    """
    own = {"bundle_root", "dataset_dir", "output_dir", "calibration", "case_key", "download_dir"}
    own -= {"dataset_dir"} if is_query(str(settings.get("dataset_dir"))) else set()
    return {
        key: str(Path(value).expanduser().absolute())
        if isinstance(value, str) and (key in own or (key.startswith("weights#") and Path(value).exists()))
        else value
        for key, value in settings.items()
    }

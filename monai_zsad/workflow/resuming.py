"""A run that goes on where an earlier one stopped, and shares its folder with others: who runs what is left."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from monai_zsad.distributed.sharing import Share, clean_case
from monai_zsad.errors import OutputError
from monai_zsad.flags import parse_flag
from monai_zsad.workflow.case_order import first_cases
from monai_zsad.writers import content_hash, fingerprint, is_complete, verify_manifest
from monai_zsad.writers.run_tables import earlier_records
from monai_zsad.writers.status import read_row

__all__ = ["evaluate", "skip_complete"]

_logger = logging.getLogger(__name__)


def skip_complete(
    dataset: Any,
    output_dir: str | os.PathLike[str],
    resume: bool | str,
    overwrite: bool | str,
    describe: Callable[[str], Mapping[str, Any]],
    settings: Mapping[str, Any],
    retry_failed: bool | str = False,
    limit: int | None = None,
) -> list[str]:
    """Take out of a data set what need not be run, and let it share the rest with other processes.

    With ``resume``, what an earlier run has completed with the same model, settings and scans is left out. Only a
    manifest whose files all verify counts.

    Args:
        dataset: a :class:`~monai_zsad.data.ScreeningDataset`; its ``data`` and ``share`` change.
        output_dir: folder of both runs.
        resume: the words "true" and "false" are understood, as of ``overwrite`` and ``retry_failed``.
        overwrite: replace what was completed otherwise.
        describe: gives the model's description for a scan of a modality, DICOM's code; its weights are loaded.
        settings: what else decides the results.
        retry_failed: resume, but run only cases that an earlier run has refused or failed.
        limit: run at most so many of what remains.

    Returns:
        Cases that were left out as complete.

    Raises:
        ConfigurationError: if ``limit`` cannot be used.
        OutputError: if a case was completed with another model, other settings or another scan, and ``overwrite`` is
            false.
    """
    retrying = parse_flag("retry_failed", retry_failed)
    share = Share(output_dir, [], settings=content_hash({"model": describe(""), "settings": settings}))
    share.resume = parse_flag("resume", resume) or retrying or (share.place.world > 1 and share.place.started_again)
    remaining = list(dataset.data)
    if retrying:
        failed = {record["case"] for record in earlier_records(output_dir, set()) if record["status"] == "failed"}
        remaining = [record for record in remaining if _has_failed(output_dir, str(record["case"]), failed)]
    done: set[str] = set()
    if share.resume:
        remaining, done = _without_complete(remaining, share, describe, settings, parse_flag("overwrite", overwrite))
    remaining = first_cases(remaining, limit)
    dataset.data = remaining
    dataset.share = share
    share.plan(remaining)
    return sorted(done)


def _without_complete(
    records: list[Any],
    share: Share,
    describe: Callable[[str], Mapping[str, Any]],
    settings: Mapping[str, Any],
    overwrite: bool,
) -> tuple[list[Any], set[str]]:
    """What remains, and the cases that are complete."""
    modalities = {str(record.get("modality") or "") for record in records}
    models = {modality: describe(modality) for modality in modalities}
    done = {
        str(record["case"])
        for record in records
        if is_complete(
            share.folder,
            record["case"],
            fingerprint(models[str(record.get("modality") or "")], settings, record["image"]),
        )
    }
    for case in done:
        if not share.claims.is_held(case):
            clean_case(share.folder, case)
    remaining = [record for record in records if str(record["case"]) not in done]
    other = [str(record["case"]) for record in remaining if not verify_manifest(share.folder, record["case"])]
    if other and not overwrite:
        raise OutputError(
            f"{share.folder} holds results of {other[0]} that were made with another model, other settings or of "
            "another scan: add --overwrite true to replace them (with `screen`: --overwrite), or give another folder"
        )
    _logger.info("%d cases are complete already, %d remain", len(done), len(remaining))
    return remaining, done


def _has_failed(output_dir: str | os.PathLike[str], case: str, by_summary: set[str]) -> bool:
    row = read_row(output_dir, case)
    return case in by_summary if row is None else not row.is_done


def evaluate(evaluator: Any) -> None:
    """Run a bundle's evaluator over the cases that this process gets, and write the tables of the run.

    Of the data set's cases, each process takes one at a time, so that none waits for another. Cases in whose midst a
    process has died come last, one by one. The first rank of torchrun then waits for the cases that living ranks have,
    writes the tables, and has all failures in ``evaluator.state.failures``; other ranks have none.

    Args:
        evaluator: its DataLoader's :class:`~monai_zsad.data.ScreeningDataset` has been seen by :func:`skip_complete`.
    """
    dataset = evaluator.data_loader.dataset
    share: Share = dataset.share
    if not dataset.data and share.place.world == 1:
        _logger.info("nothing to do: all cases are complete")
        return
    evaluator.state.share = share
    evaluator.state.summary = None
    dataset.gate = share.take
    with share.opened():
        if dataset.data:
            evaluator.run()
        share.by_itself = True
        while (left := share.left()) or share.waits:
            for record in left:
                dataset.data = [record]
                evaluator.run()
        if evaluator.state.summary is not None:
            evaluator.state.summary.conclude()
        rows = share.rows() if share.place.leads else []
    wanted = {str(record["case"]) for record in share.records}
    evaluator.state.failures = [row.summary() for row in rows if row.case in wanted and not row.is_done]

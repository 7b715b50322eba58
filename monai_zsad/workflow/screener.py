"""Screening with one call, for notebooks and programs. It does the same as ``monai-zsad screen``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_zsad.result_files import CASE_FILES, INPUT_MARK
from monai_zsad.workflow.launching import plan_workers, prepare, run_bundle
from monai_zsad.workflow.options.views import given_options

__all__ = ["Screened", "ScreenedCase", "screen"]


@dataclass(frozen=True)
class ScreenedCase:
    """Result of one scan.

    Attributes:
        case: name of the case and of its folder.
        status: ``"done"``, ``"repaired"``, ``"refused"``, ``"failed"`` or ``"left-out"``, see
            :data:`monai_zsad.writers.status.STATES`.
        volume_score: in [0, 1]; None if there are no results.
        reason: why the scan was refused or failed, in one sentence.
        codes: finding codes of the warnings, or of the refusal.
        seconds: run time.
        candidates: as in ``findings.json``, the most suspicious first: ``peak_ras_mm``, ``volume_mm3``, ...
        files: path of each result: ``anomaly_map``, ``candidates``, ``preview``, ``report``, ``findings``, ...
    """

    case: str
    status: str
    volume_score: float | None
    reason: str
    codes: tuple[str, ...]
    seconds: float
    candidates: tuple[Mapping[str, Any], ...] = field(repr=False)
    files: Mapping[str, Path] = field(repr=False)

    @property
    def is_done(self) -> bool:
        """Whether the scan has results."""
        return self.status in ("done", "repaired")


@dataclass(frozen=True)
class Screened:
    """Results of a run. ``print`` shows them as a table.

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

    def __str__(self) -> str:
        from monai_zsad.writers.run_tables import earlier_records, result_table

        return result_table(earlier_records(self.folder, set()), self.folder)


def screen(
    scans: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    bundle: str | os.PathLike[str] = "tiny_screening",
    *,
    weights: Mapping[str, str | os.PathLike[str]] | None = None,
    engine: str = "process",
    workers: int | None = None,
    ray_address: str | None = None,
    worker_gpus: float | None = None,
    **options: Any,
) -> Screened:
    """Screen scans with a bundle. Each scan gets an anomaly map, candidates, scores, a preview image and a report.

    It does the same as ``monai-zsad screen``, but in this process, and it does not change the logging. A scan that
    fails does not end the run and raises no exception, see :attr:`Screened.failed`.

    Args:
        scans: a volume file, a folder with a DICOM series, a folder with files and subfolders of these, a zip file, a
            list of scans (CSV or JSON), or a DICOMweb query.
        output_dir: folder for the results.
        bundle: the folder of a bundle, or one of the names in :func:`monai_zsad.bundles.names`.
        weights: source of each part (``clip``, ``prompts``, ...): a registered name, a file, or ``seed:N``. All other
            parts keep the released weights of the bundle.
        engine: how to run several workers: ``"process"`` (on this machine) or ``"ray"``.
        workers: number of processes that share the scans. Each has its own model. None: this process only; with Ray, 2.
        ray_address: address of a Ray cluster. None starts Ray on this machine.
        worker_gpus: number of GPUs of each Ray worker. None: 1 with ``device="cuda"``, else 0.
        **options: values of the bundle's ``inference.yaml`` by id, for example ``anatomy="brain"``,
            ``plane="coronal"``, ``window=[40, 80]``, ``dicom=["seg"]``, ``overwrite=True``, ``resume=True``,
            ``progress=False``. The names of the command line ``prompts``, ``state``, ``threshold`` and ``download``
            are also possible. None keeps the default.

    Returns:
        The cases with their status and files.

    Raises:
        ConfigurationError: if the bundle or an option is unknown, or if a value cannot be used.
        InputError: if there is no scan.
        OutputError: if the folder has results of the same cases already, or if results cannot be written.
        WeightsError: if weights are missing or do not fit.

    Example:
        >>> import tempfile
        >>> from monai_zsad.synthesis import write_sample_scan
        >>> folder = Path(tempfile.mkdtemp())
        >>> scan = write_sample_scan(folder / "scan")
        >>> result = screen(scan, folder / "out", anatomy="brain", modality="FLAIR", progress=False)  # doctest: +SKIP
        >>> result.cases["sample_flair"].files["anomaly_map"].name  # doctest: +SKIP
        'anomaly.nii.gz'
    """
    parts = {f"weights#{part}": source for part, source in (weights or {}).items()}
    settings = {key: _plain(value) for key, value in (given_options(options) | parts).items()}
    hook, search = sys.excepthook, list(sys.path)
    try:
        config, given = prepare(os.fspath(scans), output_dir, bundle, settings)
        plan = plan_workers(engine, workers, ray_address, worker_gpus, given.get("device"), given.get("limit"))
        complete = run_bundle(config, given, plan, logging_file=False)
    finally:
        # The run of a bundle expects a process of its own, so it does not restore these.
        sys.excepthook, sys.path[:] = hook, search
    folder = Path(output_dir).expanduser()
    every = _cases(folder)
    inputs = {case: every.pop(case) for case in list(every) if case.startswith(INPUT_MARK)}
    return Screened(folder, every, complete, inputs)


def _cases(folder: Path) -> dict[str, ScreenedCase]:
    from monai_zsad.writers.run_tables import earlier_records
    from monai_zsad.writers.status import StatusRow, read_row

    found = {}
    for record in earlier_records(folder, set()):
        case = str(record["case"])
        row = read_row(folder, case) or StatusRow(
            case, record["status"], (), record.get("reason", ""), record.get("volume_score"), record["seconds"]
        )
        files: dict[str, Path] = {}
        candidates: tuple[Mapping[str, Any], ...] = ()
        findings = folder / case / CASE_FILES["findings"].name
        if row.is_done and findings.is_file():
            content = json.loads(findings.read_text(encoding="utf-8"))
            files = {kind: findings.parent / name for kind, name in content["files"].items()} | {"findings": findings}
            candidates = tuple(content["candidates"])
        found[case] = ScreenedCase(
            case, row.status, row.volume_score, row.reason, row.codes, row.seconds, candidates, files
        )
    return found


def _plain(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value

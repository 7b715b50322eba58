"""A bundle's run over its cases: check the folder, resume, evaluate, finish."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ignite.engine import Engine

from monai_zsad.data import FoundScans
from monai_zsad.distributed.ranks import use_own_device
from monai_zsad.distributed.sharing import Share, clean_case
from monai_zsad.errors import OutputError
from monai_zsad.workflow.cases.output_folder import check_output
from monai_zsad.workflow.console.case_log import CaseLog
from monai_zsad.workflow.console.events import emit_end, emit_input
from monai_zsad.workflow.console.quiet import open_log, process_console
from monai_zsad.workflow.options.settings import Settings
from monai_zsad.writers import content_hash, fingerprint, is_complete, verify_manifest
from monai_zsad.writers.run_tables import earlier_records, is_published, publish
from monai_zsad.writers.status import StatusRow, read_row, read_rows

__all__ = ["ScreeningRun"]

_logger = logging.getLogger(__name__)


class ScreeningRun:
    """A run of a bundle over its cases, perhaps together with other processes in the same folder.

    A bundle calls :meth:`check_output`, :meth:`skip_complete`, :meth:`evaluate` and :meth:`finish`, in this order. The
    run is also a handler of the evaluator: it writes a status row for each case. MONAI's evaluator was not enough: it
    runs a data set once, and it does not know earlier runs or other processes.

    Args:
        output_dir: folder of the run.
        cases: records of :func:`~monai_zsad.workflow.cases.names.find_cases`. What this has left out stands in the
            tables, too.
        settings: the bundle's options; ``overwrite``, ``resume``, ``retry_failed``, ``limit`` and ``progress`` are used
            here, and the record of the others decides whether a case is complete.
        describe: gives the model's description for a scan of a modality (DICOM's code), once its weights are loaded.

    Attributes:
        cases: of the run; after :meth:`skip_complete` those that remain.
        failures: after :meth:`evaluate`, the records of cases and other inputs that were refused or failed. Only rank 0
            has them.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        cases: Sequence[Mapping[str, Any]],
        settings: Settings,
        describe: Callable[[str], Mapping[str, Any]],
    ) -> None:
        self.folder = Path(output_dir).expanduser()
        self.cases = list(cases)
        self.settings = settings
        self.describe = describe
        self.failures: list[dict[str, Any]] = []
        self.found = cases if isinstance(cases, FoundScans) else FoundScans()
        self.share = Share(self.folder, self.found[:0])
        self._settings = ""
        self.log = CaseLog(self._finished, self.folder, settings.progress, lambda: self.share.run)

    def check_output(self) -> None:
        """Make the folder, and refuse before any computation what would fail or overwrite at the end.

        Raises:
            OutputError: see :func:`~monai_zsad.workflow.cases.output_folder.check_output`.
        """
        settings = self.settings
        use_own_device()
        check_output(self.folder, self.cases, settings.overwrite, settings.resume or settings.retry_failed)
        open_log(self.folder)

    def skip_complete(self) -> list[str]:
        """Leave out what an earlier run has completed, if the run resumes. Call it when the weights are loaded.

        A case is complete if its manifest and all its files verify, and model, settings and scan are the same.

        Returns:
            The cases that were left out.

        Raises:
            OutputError: if a case was completed with another model, other settings or from another scan, or the folder
                holds other cases that were made with other settings, and ``overwrite`` is false.
        """
        settings = self.settings
        record = settings.record.files
        made_with = content_hash({"model": self.describe(""), "settings": record})
        self.share = Share(self.folder, self.found[:0], settings=made_with)
        self._settings = self._settings_hash()
        self._refuse_other_settings()
        restarted = self.share.rank.world_size > 1 and self.share.rank.restarted
        self.share.resume = settings.resume or settings.retry_failed or restarted
        remaining, done = self.cases, set[str]()
        if settings.retry_failed:
            by_summary = {one["case"] for one in earlier_records(self.folder, set()) if one["status"] == "failed"}
            remaining = [one for one in remaining if self._has_failed(str(one["case"]), by_summary)]
        if self.share.resume:
            remaining, done = self._without_complete(remaining, record)
        self.cases = remaining[: settings.limit]
        self.log.complete = len(done)
        self.share.plan(self.cases)
        return sorted(done)

    def _refuse_other_settings(self) -> None:
        """Scores that were made with other settings cannot be compared: they do not belong into one folder."""
        replaced = {str(record["case"]) for record in self.cases} if self.settings.overwrite else set()
        rows = (row for row in read_rows(self.folder) if row.is_done and row.case not in replaced)
        kept = [row.case for row in rows if row.settings not in ("", self._settings)]
        if kept:
            raise OutputError(
                f"{self.folder} holds results of {kept[0]} that were made with another model or other settings: give "
                "another folder, or use --overwrite with all of its scans"
            )

    def _settings_hash(self) -> str:
        # Prompts follow the modality, so they may differ between the scans of one run, too.
        model = {key: value for key, value in self.describe("").items() if key != "prompts"}
        return content_hash({"model": model, "settings": self.settings.findings})

    def _has_failed(self, case: str, by_summary: set[str]) -> bool:
        row = read_row(self.folder, case)
        return case in by_summary if row is None else not row.is_done

    def _without_complete(
        self, records: list[Mapping[str, Any]], settings: Mapping[str, Any]
    ) -> tuple[list[Mapping[str, Any]], set[str]]:
        """What remains, and the cases that are complete."""
        modalities = {str(record.get("modality") or "") for record in records}
        models = {modality: self.describe(modality) for modality in modalities}

        def complete(record: Mapping[str, Any]) -> bool:
            model = models[str(record.get("modality") or "")]
            return is_complete(self.folder, record["case"], fingerprint(model, settings, record["image"]))

        whole = {str(record["case"]) for record in records if complete(record)}
        # Of a run that was killed between the last file of a case and its row. Without a row, no table would show it.
        unlisted = {case for case in whole if self._has_no_row(case)}
        done = whole - unlisted
        for case in done:
            if not self.share.claims.is_held(case):
                clean_case(self.folder, case)
        remaining = [record for record in records if str(record["case"]) not in done]
        others = [case for case in (str(record["case"]) for record in remaining) if case not in unlisted]
        other = [case for case in others if not verify_manifest(self.folder, case)]
        if other and not self.settings.overwrite:
            raise OutputError(
                f"{self.folder} holds results of {other[0]} that were made with another model, other settings or from "
                "another scan: add --overwrite true (`screen`: --overwrite) to replace them, or give another folder"
            )
        _logger.info("%d cases are complete already, %d remain", len(done), len(remaining))
        return remaining, done

    def _has_no_row(self, case: str) -> bool:
        return read_row(self.folder, case) is None and not self.share.claims.is_held(case)

    def evaluate(self, evaluator: Any) -> None:
        """Run the evaluator over the cases that this process gets, and write the tables of the run.

        Each process takes one case at a time, so that none waits for another. A case that a process was running when it
        died comes last and alone. Rank 0 of torchrun waits for the cases of living ranks and writes the tables.

        Args:
            evaluator: the bundle's; its DataLoader loads a :class:`~monai_zsad.data.ScreeningDataset`.
        """
        alone = self.share.rank.is_leader and self.share.rank.world_size == 1
        # Workers of `screen --workers` are silent: their launcher tells of all scans.
        silent = not self.share.rank.is_leader and self.share.rank.world_size == 1
        with process_console(self.folder, self.settings.progress and alone, silent):
            self._evaluate(evaluator, alone)

    def _evaluate(self, evaluator: Any, alone: bool) -> None:
        share, dataset, begin = self.share, evaluator.data_loader.dataset, time.perf_counter()
        self.failures = []
        self.log.shared = not alone
        # After a run that was killed between its last row and its tables, only the tables are missing.
        must_publish = share.rank.is_leader and (bool(self.found.left_out) or not is_published(self.folder))
        if not self.cases and share.rank.world_size == 1 and not must_publish:
            _logger.info("nothing to do: all cases are complete")
            emit_end(self.folder, [], self.log.complete, 0.0)
            return

        def run(records: Sequence[Mapping[str, Any]]) -> None:
            dataset.select(records, share.take)
            evaluator.run()

        with share.opened():
            if self.cases:
                run(self.cases)
            share.one_by_one = True
            while (left := share.remaining()) or share.wait_for_others():
                for record in left:
                    run([record])
            started = self.log.started
            self.log.close()
            if share.rank.is_leader and (started or must_publish):
                self._publish(begin)
            rows = share.rows() if share.rank.is_leader else []
        wanted = {str(record["case"]) for record in share.records} | {one.case for one in self.found.left_out}
        self.failures = [row.summary() for row in rows if row.case in wanted and row.has_failed]

    def finish(self) -> None:
        """End the program with exit code 1 if a case or another input was refused or failed. The others are done then.

        Inputs that were left out on purpose do not change the exit code.

        Raises:
            SystemExit: code 1 if there are failures.
        """
        end_quickly()
        if self.failures:
            raise SystemExit(1)

    def attach(self, engine: Engine) -> None:
        """Register the run as a handler with an evaluator.

        Args:
            engine: the evaluator.
        """
        self.log.attach(engine)

    def _finished(self, row: StatusRow) -> None:
        self.share.finish(replace(row, settings=self._settings))

    def _publish(self, begin: float) -> None:
        with self.share.tables():
            self.share.write_inputs()
            rows = self.share.rows()
            publish(self.folder, rows, keep_earlier=self.share.resume)
        inputs = self.share.inputs()
        for row in inputs:
            emit_input(row)
        shown = [*self.log.rows, *inputs] if self.share.rank.world_size == 1 else rows
        emit_end(self.folder, shown, self.log.complete, time.perf_counter() - begin)


def end_quickly() -> None:
    """Spare the interpreter its last search for cycles among all objects of MONAI's import: more than a second."""
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)

"""The first pass of a method that compares scans: features of every scan, shared among processes, kept for later."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ignite.engine import Engine, Events
from monai.transforms import Compose

from monai_zsad.distributed.sharing import Share
from monai_zsad.mutual.store import FeatureStore
from monai_zsad.workflow.console.events import emit
from monai_zsad.workflow.evaluator import ScreeningEvaluator
from monai_zsad.writers.status import StatusRow

__all__ = ["extract_features"]

_logger = logging.getLogger(__name__)


def extract_features(
    store: FeatureStore,
    records: Sequence[Mapping[str, Any]],
    evaluator: Any,
    extract: Callable[..., Any],
    conclude: Callable[[Share], None] | None = None,
) -> None:
    """Compute the features that the store lacks. Each process takes one scan at a time, as in a run.

    Scans with features are left out, so that an interrupted pass goes on. At the end, each process waits until no other
    process has a scan: the next pass needs all features. A scan that fails is left without features; the status row of
    the store says why.

    Args:
        store: of the features.
        records: of :func:`~monai_zsad.workflow.cases.names.find_cases`.
        evaluator: of the next pass; its network, device and DataLoader are used.
        extract: the inferer of this pass.
        conclude: is called at the end, while other processes see that this one lives.

    Raises:
        OutputError: if features cannot be written.
    """
    todo = [record for record in records if not store.holds(str(record["case"]), record["image"])]
    _logger.info("features of %d of %d scans are to be computed, in %s", len(todo), len(records), store.folder)
    share = Share(store.folder, todo, settings=store.key)
    own = ScreeningEvaluator(
        device=evaluator.state.device,
        val_data_loader=evaluator.data_loader,
        network=evaluator.network,
        inferer=extract,
        postprocessing=Compose(store.writers()),
        val_handlers=[_Rows(share)],
        deterministic=evaluator.deterministic,
    )
    dataset = evaluator.data_loader.dataset

    def run(some: Sequence[Mapping[str, Any]]) -> None:
        dataset.select(some, share.take)
        own.run()

    with share.opened():
        if todo:
            run(todo)
        share.one_by_one = True
        while (left := share.remaining()) or share.wait_for_others(always=True):
            for record in left:
                run([record])
        if conclude is not None:
            conclude(share)


class _Rows:
    """Handler that writes a status row for each scan and releases it."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self.finished = 0

    def attach(self, engine: Engine) -> None:
        """Register the handler with an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._complete)

    def _complete(self, engine: Engine) -> None:
        outputs, batch = engine.state.output, engine.state.batch
        for item, output in zip(batch, outputs, strict=True) if isinstance(outputs, list) else ():
            known = {**item, **output}
            if known.get("status") == "elsewhere":
                continue
            case, code = str(known["case"]), str(known.get("code") or "")
            failed = known.get("status") == "failed"
            status = ("refused" if code else "failed") if failed else "done"
            codes = (code,) if code else ()
            self.share.finish(StatusRow(case, status, codes, str(known.get("reason", "")), run=self.share.run))
            self.finished += 1
            _logger.info("%s: features %s", case, "failed" if failed else "kept")
            emit("features", case=case, number=self.finished, scans=len(self.share.records))

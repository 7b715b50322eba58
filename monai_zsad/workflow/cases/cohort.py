"""A run whose scans are compared with one another, or with normal scans as the reference."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from monai_zsad.distributed.sharing import Share
from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.mutual.inferer import MutualInferer
from monai_zsad.mutual.matching import ComparedScan, choose_others
from monai_zsad.mutual.references import REFERENCES_FILE, References
from monai_zsad.mutual.store import FeatureStore, StoredScan
from monai_zsad.networks import ZeroShotNetwork
from monai_zsad.workflow.cases.extraction import extract_features
from monai_zsad.workflow.cases.names import find_cases
from monai_zsad.workflow.console.events import emit
from monai_zsad.workflow.options.settings import Settings
from monai_zsad.workflow.run import ScreeningRun
from monai_zsad.writers import content_hash, fingerprint
from monai_zsad.writers.status import read_row

__all__ = ["MutualRun"]

# Options that decide features; those that come later, such as thresholds, do not.
_DECIDING = (
    "volume", "accept", "repair", "colour", "amp", "plane", "fused_planes", "window", "crop_margin_mm",
    "min_foreground", "slice_spacing_mm", "context_mm",
)  # fmt: skip
_FEW = 5

_logger = logging.getLogger(__name__)


class MutualRun(ScreeningRun):
    """A run in two passes: features of every scan, then each scan against others.

    :class:`ScreeningRun` was not enough, as its scans do not depend on one another. The second pass is its run, with
    resuming, claims, tables and writers as they are. Without a reference, a scan is compared with other scans of the
    run that are of its kind. With one, it is compared with those alone.

    Args:
        output_dir: see :class:`ScreeningRun`.
        cases: see :class:`ScreeningRun`.
        settings: with ``reference``, ``neighbours`` and the options of :class:`ScreeningRun`.
        describe: see :class:`ScreeningRun`.
        inferer: of the second pass.
        network: gives the features.
        features_dir: folder that keeps the features.
        choice: how ``neighbours`` scans are chosen, see :func:`~monai_zsad.mutual.matching.choose_others`.
        coreset: share of the tokens of each slice that a reference keeps, above 0, up to 1.

    Raises:
        ConfigurationError: if a value cannot be used.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        cases: Sequence[Mapping[str, Any]],
        settings: Settings,
        describe: Callable[[str], Mapping[str, Any]],
        inferer: MutualInferer,
        network: ZeroShotNetwork,
        features_dir: str | os.PathLike[str],
        choice: str = "random",
        coreset: float = 0.1,
    ) -> None:
        super().__init__(output_dir, cases, settings, describe)
        if choice not in ("random", "nearest"):
            raise ConfigurationError(f"choice={choice!r} cannot be used: choose random or nearest")
        if not 0 < coreset <= 1:
            raise ConfigurationError(f"coreset={coreset!r} cannot be used: give a share above 0, up to 1")
        self.every = list(cases)
        self.inferer = inferer
        self.network = network
        self.features_dir = Path(features_dir).expanduser()
        self.choice: Any = choice
        self.coreset = coreset
        self.references: References | None = None
        self._normal: list[Mapping[str, Any]] = []
        self._scans: dict[str, StoredScan] = {}
        self._batch: dict[str, Any] = {}

    def check_output(self) -> None:
        """See :class:`ScreeningRun`; also, refuse too few scans, and find those of the reference.

        Raises:
            InputError: if there is one scan and no reference, or the reference holds no scan.
            ConfigurationError: if the network is not run by PyTorch.
        """
        super().check_output()
        if self.settings.runtime != "torch":
            raise ConfigurationError(
                f"runtime={self.settings.runtime}: an exported network gives no features; leave it out"
            )
        reference = self.settings.reference
        if reference is None:
            if len(self.every) < 2:
                raise InputError(
                    "one scan alone cannot be compared with others: give a folder with at least two scans of one "
                    "kind, or normal scans by --reference NORMALS, or use another bundle, such as tiny_screening"
                )
        elif Path(reference).expanduser().is_file() and Path(reference).suffix == Path(REFERENCES_FILE).suffix:
            self.references = References(reference)
        else:
            self._normal = list(find_cases(reference, self.folder, self.settings.case_names))

    def skip_complete(self) -> list[str]:
        """See :class:`ScreeningRun`; also, state in the description of the network how scans are compared.

        Raises:
            ConfigurationError: if the reference was made with other weights or options.
        """
        if self.references is not None:
            self.references.check(self._store().key, self._bank_settings())
        self.network.head = {
            **self.inferer.describe(),
            **({"choice": self.choice} if self.settings.reference is None else {"reference": self._identity()}),
        }
        return super().skip_complete()

    def attach(self, engine: Engine) -> None:
        """See :class:`ScreeningRun`; also, tell the inferer what to compare each scan with."""
        super().attach(engine)
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin)
        self.inferer.compare = self._compare

    def _evaluate(self, evaluator: Any, alone: bool) -> None:
        if self.cases:
            self._prepare(evaluator)
        super()._evaluate(evaluator, alone)

    def _prepare(self, evaluator: Any) -> None:
        """The first pass."""
        self.inferer.progress = False  # its scans are counted
        if self.references is not None:
            return
        if self._normal:
            store = self._store("references")
            extract_features(store, self._normal, evaluator, self.inferer.extract, self._write_references)
            return
        store = self._store()
        records = self.every
        if self.settings.limit is not None:
            # A quick test must not compute the features of a large folder.
            own = {str(record["case"]) for record in self.cases}
            records = [one for one in records if one["case"] in own or store.holds(str(one["case"]), one["image"])]
        extract_features(store, records, evaluator, self.inferer.extract)
        self._scans = {scan.case: scan for scan in _read(store, records)}
        kinds = Counter(str(scan.kind) for scan in self._scans.values())
        for kind, count in kinds.items():
            _logger.info("scans to compare with one another: %d, %s", count, kind)
            if len(kinds) > 1:
                emit("kind", kind=kind, scans=count)

    def _store(self, part: str = "scans") -> FeatureStore:
        model = {name: value for name, value in self.network.describe().items() if name not in ("prompts", "head")}
        values = self.settings.as_dict()
        settings = {name: values[name] for name in _DECIDING if name in values}
        return FeatureStore(self.features_dir / part, {**model, "features": self.inferer.describe_features()}, settings)

    def _bank_settings(self) -> dict[str, Any]:
        return {"degrees": self.inferer.degrees}

    def _made_from(self) -> dict[str, Any]:
        scans = sorted(fingerprint(source_files=record["image"]).input or "" for record in self._normal)
        settings = self._bank_settings()
        return {"features": self._store().key, "settings": settings, "scans": scans, "share": self.coreset}

    def _identity(self) -> str:
        return content_hash(self._made_from()) if self.references is None else self.references.identity

    def _write_references(self, share: Share) -> None:
        """Make the file of references once, and read it in every process."""
        file, made_from = self.folder / REFERENCES_FILE, self._made_from()
        while self.references is None:
            try:
                found = References(file)
            except InputError:
                found = None
            if found is not None and found.identity == content_hash(made_from):
                self.references = found
            elif share.claims.take(f".{REFERENCES_FILE}") is not None:
                scans = _read(self._store("references"), self._normal)
                _logger.info("references are made from %d of %d scans: %s", len(scans), len(self._normal), file)
                self.references = References.write(file, scans, self.inferer.aggregated, made_from)
                share.claims.release(f".{REFERENCES_FILE}")
            else:
                share.pause()

    def _begin(self, engine: Engine) -> None:
        self._batch = engine.state.batch if isinstance(engine.state.batch, dict) else {}

    def _compare(self, inputs: torch.Tensor) -> tuple[StoredScan | None, Sequence[ComparedScan]]:
        """What the scan of the present iteration is compared with."""
        if self.references is not None:
            meta = inputs.meta if isinstance(inputs, MetaTensor) else {}
            files = _first(meta.get("source_files")) or ""
            own, known = None, fingerprint(source_files=files).input or ""
            others = self.references.compared(self.inferer.kind_of(inputs), known, self.inferer.loaded)
        else:
            own = self._own(str(_first(self._batch["case"])))
            others = [self.inferer.compared(self._scans[name]) for name in self._others(own)]
        if len(others) < _FEW:
            self._warn(
                f"compared with only {len(others)} scan{'' if len(others) == 1 else 's'}: normal variation that "
                "they do not show looks abnormal"
            )
        return own, others

    def _own(self, case: str) -> StoredScan:
        if case in self._scans:
            return self._scans[case]
        row = read_row(self._store().folder, case)
        reason = row.reason if row is not None and row.has_failed else "they are missing; run again with --resume"
        raise InputError(f"{case}: its features could not be computed: {reason}")

    def _others(self, own: StoredScan) -> list[str]:
        alike = {name: scan for name, scan in self._scans.items() if scan.kind == own.kind and name != own.case}
        # The same scan under another name would make everything look normal; its file may have another format.
        known = [own.embedding, *(scan.embedding for scan in alike.values())]
        same = torch.isclose(torch.stack(known), own.embedding, 1e-4, 1e-6).all(1).tolist()[1:]
        others = {
            name: scan.embedding
            for (name, scan), copy in zip(alike.items(), same, strict=True)
            if not copy and scan.input != own.input
        }
        if not others:
            found = "only copies of it are" if alike else f"no other scan of its kind ({own.kind}) is"
            raise InputError(
                f"{own.case}: {found} among the scans, so there is nothing to compare it with; add scans of this kind, "
                "or give normal scans by --reference NORMALS"
            )
        return choose_others(own.case, {own.case: own.embedding, **others}, self.settings.neighbours, self.choice)

    def _warn(self, sentence: str) -> None:
        if "case" in self._batch:
            earlier = _first(self._batch.get("warnings")) or ""
            self._batch["warnings"] = ["\n".join(filter(None, [earlier, sentence]))]


def _read(store: FeatureStore, records: Sequence[Mapping[str, Any]]) -> list[StoredScan]:
    """The scans with features. What failed now may have features of an earlier file of this name."""
    cases = [str(record["case"]) for record in records]
    rows = {case: read_row(store.folder, case) for case in cases}
    failed = {case for case, row in rows.items() if row is not None and row.has_failed}
    return [store.read(case) for case in cases if case not in failed and store.has_file(case)]


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and value else value

"""One screened scan: its score, candidates, volumes and files."""

from __future__ import annotations

import importlib.util
import json
import shutil
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from monai_zsad.errors import InputError, OutputError
from monai_zsad.result_files import case_folder, final_name
from monai_zsad.workflow.python.showing import case_html, show_page
from monai_zsad.writers.facts import UNFAMILIAR_WARNING

if TYPE_CHECKING:
    from monai.data import MetaTensor

# A DataFrame of pandas or a list of dictionaries: a type of both would not let a program use either.
Table: TypeAlias = Any

__all__ = ["OneScan", "Origin", "ScreenedCase", "Table", "as_table", "copy_results", "summary"]


@dataclass(frozen=True)
class Origin:
    """Where the results of a run come from.

    Attributes:
        scans: gives the records of the scans, and the transform that reads one, as the bundle reads it.
        folders: temporary folders that must live as long as the results.
        is_temporary: the results are in one of these folders.
    """

    scans: Callable[[], tuple[Sequence[Mapping[str, Any]], Callable[[Any], Any]]]
    folders: tuple[Any, ...] = ()
    is_temporary: bool = False

    def read(self, case: str) -> MetaTensor:
        """Read the scan of a case again.

        Args:
            case: its id.

        Raises:
            InputError: if the scan was not among those of this run, or cannot be read any more.
        """
        records, load = self.scans()
        for record in records:
            if record["case"] == case:
                return load(dict(record))["image"]
        raise InputError(f"{case}: the scan was not among the scans of this call; screen it again to see its image")


class OneScan:
    """Attributes of one scan: a case has them, and so has the result of a call with one scan."""

    @property
    @abstractmethod
    def _one(self) -> ScreenedCase:
        """The scan with results; an error with the reason if there are none."""

    @property
    def score(self) -> float:
        """The volume score in [0, 1], higher for a more suspicious scan.

        Raises:
            InputError: if there are no results, with the reason. The same holds for all attributes below.
        """
        return float(self.findings["volume_score"])

    @property
    def candidates(self) -> Table:
        """The lesion candidates, most suspicious first, with the columns of ``findings.csv`` (positions in mm).

        A ``pandas.DataFrame`` where pandas is installed, else a list of dictionaries.
        """
        from monai_zsad.writers.records.findings import FINDINGS_COLUMNS, findings_rows

        return as_table(findings_rows(self.findings), FINDINGS_COLUMNS)

    @property
    def findings(self) -> dict[str, Any]:
        """The content of ``findings.json``."""
        return self._one._findings

    @property
    def warnings(self) -> list[str]:
        """What a reader of the results must know, one sentence each."""
        return list(self.findings["warnings"])

    @property
    def unfamiliar(self) -> bool | None:
        """Whether the scan is outside of what the model was trained on; None if the network does not tell."""
        return self.findings.get("unfamiliar")

    @property
    def map(self) -> MetaTensor:
        """The anomaly map (1, X, Y, Z) in [0, 1] on the scan's grid, with its affine (RAS, mm); read on first use."""
        return self._one._map

    @property
    def labels(self) -> MetaTensor:
        """The candidates (1, X, Y, Z) on the scan's grid: 0, or the ``id`` of a candidate; read on first use."""
        return self._one._labels

    @property
    def image(self) -> MetaTensor:
        """The scan (C, X, Y, Z) as it was read, with its affine (RAS, mm); read again on first use."""
        return self._one._image

    def show(self) -> None:
        """Show scan, map and candidates: in Jupyter as a viewer below the cell, else the report in the browser.

        If the results are in a temporary folder, the browser gets a copy of the page, which stays in the system's
        folder for temporary files.
        """
        one = self._one
        show_page(one.case, one.files.get("report"), self._viewer, not (one.origin and one.origin.is_temporary))

    def _viewer(self) -> str:
        from monai_zsad.writers.pages.viewer import viewer_page

        found, modality = self.findings["candidates"], self.findings["scan"]["modality"]
        return viewer_page(self.image, self.map, self.labels, found, modality=modality, title=self._one.case)


@dataclass(frozen=True)
class ScreenedCase(OneScan):
    """Result of one scan.

    Attributes:
        case: name of the case and of its folder.
        status: ``"done"``, ``"repaired"``, ``"refused"``, ``"failed"`` or ``"left-out"``, see
            :data:`monai_zsad.writers.status.STATES`.
        volume_score: in [0, 1]; None if there are no results.
        reason: why the scan was refused or failed, in one sentence.
        codes: finding codes of the warnings, or of the refusal.
        seconds: run time.
        files: path of each result: ``anomaly_map``, ``candidates``, ``preview``, ``report``, ``findings``, ...
        origin: how the scan is read again, for its image; None if the scan is not known.
    """

    case: str
    status: str
    volume_score: float | None
    reason: str
    codes: tuple[str, ...]
    seconds: float
    files: Mapping[str, Path] = field(repr=False)
    origin: Origin | None = field(repr=False, compare=False, default=None)

    @property
    def is_done(self) -> bool:
        """Whether the scan has results."""
        return self.status in ("done", "repaired")

    def save(self, folder: str | Path) -> Path:
        """Copy the files of the case.

        Args:
            folder: gets a folder with the name of the case.

        Returns:
            The folder of the case.

        Raises:
            InputError: if there are no results.
            OutputError: if a file exists there, or cannot be written.
        """
        target = case_folder(Path(folder).expanduser(), self.case)
        copy_results(self._one.files["findings"].parent, target)
        return target

    def __repr__(self) -> str:
        return f"ScreenedCase({summary(self)})"

    def _repr_html_(self) -> str:
        return case_html(self.case, f"{self.status}. {self.reason}", self.findings if self.is_done else None)

    @property
    def _one(self) -> ScreenedCase:
        if not self.is_done or "findings" not in self.files:
            why = self.reason or "its files are missing; screen it again"
            code = self.codes[0] if self.codes else ""
            raise InputError(f"{self.case}: has no results, because the scan was {self.status}: {why}", code=code)
        return self

    @cached_property
    def _findings(self) -> dict[str, Any]:
        return json.loads(self.files["findings"].read_text(encoding="utf-8"))

    @cached_property
    def _map(self) -> MetaTensor:
        return _read(self.files["anomaly_map"])

    @cached_property
    def _labels(self) -> MetaTensor:
        return _read(self.files["candidates"])

    @cached_property
    def _image(self) -> MetaTensor:
        if self.origin is None:
            raise InputError(f"{self.case}: the path of the scan is not known; screen it again to see its image")
        return self.origin.read(self.case)


def summary(case: ScreenedCase) -> str:
    """One line about a case."""
    if not case.is_done:
        return f"{case.case}: {case.status}: {case.reason}"
    count = len(case.findings["candidates"])
    note = f"; {UNFAMILIAR_WARNING}" if case.unfamiliar else ""
    return f"{case.case}: score {case.score:.3f}, {count} candidate{'' if count == 1 else 's'}{note}"


def as_table(rows: list[dict[str, Any]], columns: Sequence[str]) -> Table:
    """A ``pandas.DataFrame`` where pandas is installed, else the rows."""
    if importlib.util.find_spec("pandas") is None:
        return rows
    import pandas

    return pandas.DataFrame(rows, columns=list(columns))


def _read(file: Path) -> MetaTensor:
    # Not LoadImage: it makes readers of all formats, and those for DICOM print a note.
    import nibabel
    import numpy as np
    import torch
    from monai.data import MetaTensor

    image = nibabel.load(file)
    return MetaTensor(torch.from_numpy(np.array(image.dataobj))[None], affine=torch.from_numpy(image.affine))


def copy_results(source: Path, target: Path) -> None:
    """Copy the files of a folder; nothing that exists is replaced."""
    files = [path for path in sorted(source.rglob("*")) if path.is_file() and final_name(path.name) is None]
    there = [path for path in files if (target / path.relative_to(source)).exists()]
    if there:
        raise OutputError(f"{target / there[0].relative_to(source)} exists; give another folder, or remove it")
    try:
        for path in files:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror or error}); give another folder, or free space"
        ) from error

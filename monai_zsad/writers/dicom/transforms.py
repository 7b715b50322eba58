"""Results of a DICOM scan as DICOM objects beside it."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import Transform

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.result_files import CASE_FILES
from monai_zsad.writers.base import CaseLayout, CaseWriter
from monai_zsad.writers.dicom.objects import CaseContent, dicom_objects, map_values
from monai_zsad.writers.dicom.parametric_map import MAP_TYPES
from monai_zsad.writers.dicom.references import UnfitSourceError
from monai_zsad.writers.dicom.segmentation import Candidate
from monai_zsad.writers.dicom.source import header_errors, read_source
from monai_zsad.writers.facts import UNFAMILIAR_WARNING, Meta, ResultWarning, described
from monai_zsad.writers.files import atomic_path

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["KINDS", "SaveDicom", "SaveDicomD", "SaveDicomDict", "SaveDicomd"]

KINDS = tuple(
    CASE_FILES[kind].postfix for kind in ("dicom_segmentation", "dicom_parametric_map", "dicom_report", "dicom_capture")
)
"""DICOM objects that can be written: Segmentation, Parametric Map, Structured Report, Secondary Capture."""

_USUAL = KINDS[:3]
_RESAMPLED = frozenset({"slices-interpolated", "slices-resampled", "tilt-resheared"})

_logger = logging.getLogger(__name__)


class SaveDicom(Transform):
    """Write ``<output_dir>/<case>/seg.dcm``, ``pm.dcm``, ``sr.dcm``, ``sc.dcm`` for a scan read from DICOM.

    MONAI does not write DICOM: ``SaveImage`` has writers for NIfTI, NRRD and 2D images only. highdicom makes the
    objects: a binary Segmentation with one segment per lesion candidate, a Parametric Map of the score, a Comprehensive
    3D SR (TID 1500) with the measurements of the candidates and, on request, a Secondary Capture of key slices. All but
    the capture use the source's frame of reference and refer to its images. As the standard requires, data of patient
    and study are copied from the source; data of hospital and machine are not. Each object is a separate series, with
    new UIDs at every write. Each object states that it is not for clinical use and, if weights are random, that its
    values mean nothing.

    A scan without candidates gets no segmentation, because that needs at least one segment. The report then says that
    no candidate was found, and the segmentation of an earlier run is removed.

    Args:
        output_dir: folder of the run.
        kinds: some of :data:`KINDS`; ``"sr"`` needs ``"seg"``, because it refers to the segments.
        meta: the bundle's description of its model, or a function that returns it (see ``SaveScoresd``).
        map_dtype: how the map is stored, see :func:`dicom_parametric_map`.
        strict: raise an error for a scan that was not read from DICOM, or whose files DICOM results cannot be made of;
            otherwise write nothing, remove the objects of an earlier run, and warn.

    Raises:
        ConfigurationError: if a kind or type is unknown, or ``"sr"`` is given without ``"seg"``.

    Example:
        >>> save = SaveDicom("out", kinds=("pm",))
        >>> save.layouts["pm"].filename(subject="anna").name
        'pm.dcm'
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str] = "./",
        kinds: Sequence[str] = _USUAL,
        meta: Meta = None,
        map_dtype: str = "float32",
        strict: bool = False,
    ) -> None:
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        if not kinds or not set(kinds) <= set(KINDS):
            raise ConfigurationError(f"kinds={kinds!r}: give some of {', '.join(map(repr, KINDS))}")
        if "sr" in kinds and "seg" not in kinds:
            raise ConfigurationError(f"kinds={kinds!r}: the report refers to the segmentation; add 'seg'")
        if map_dtype not in MAP_TYPES:
            raise ConfigurationError(f"map_dtype={map_dtype!r}: accepted are {' and '.join(map(repr, MAP_TYPES))}")
        self.meta = meta
        self.map_dtype = map_dtype
        self.strict = strict
        self.layouts = {kind: CaseLayout(output_dir, kind, ".dcm", makedirs=True) for kind in KINDS if kind in kinds}

    def __call__(
        self,
        img: NdarrayOrTensor,
        labels: NdarrayOrTensor | None,
        candidates: Sequence[Candidate],
        source_files: Sequence[str | os.PathLike[str]],
        case: str,
        scan: NdarrayOrTensor | None = None,
        scores: Mapping[str, Any] | None = None,
    ) -> NdarrayOrTensor:
        """Write the objects and pass the map on.

        Args:
            img: (1, X, Y, Z) map on the scan's grid, with its affine (RAS, mm).
            labels: (1, X, Y, Z) label map of the candidates, on the same grid; may be ``None`` for ``kinds=("pm",)``.
            candidates: see :class:`~monai_zsad.writers.dicom.segmentation.Candidate`, most suspicious first.
            source_files: all files that the scan was read from.
            case: id of the case.
            scan: (C, X, Y, Z), for ``"sc"``; it is resampled to the map's grid by its affine.
            scores: ``p_values`` of the candidates, ``volume_p_value`` and ``volume_score``, if they exist.

        Returns:
            ``img`` itself.

        Raises:
            OutputError: if a value is not finite, label map and map differ in shape, the map is not on the grid of the
                files, a file cannot be read again or written, or, if ``strict``, the scan was not read from DICOM, or
                the source's header cannot be used.
        """
        self._save(img, labels, candidates, source_files, case, scan, scores)
        return img

    def _save(
        self,
        img: NdarrayOrTensor,
        labels: NdarrayOrTensor | None,
        candidates: Sequence[Candidate],
        source_files: Sequence[str | os.PathLike[str]],
        case: str,
        scan: NdarrayOrTensor | None = None,
        scores: Mapping[str, Any] | None = None,
        resampled: str = "",
        remarks: tuple[str, ...] = (),
    ) -> list[ResultWarning]:
        """Write the objects; the warnings say why nothing was written, or what the objects lack."""
        values = map_values(img, case)
        affine = img.affine.cpu().numpy() if isinstance(img, MetaTensor) else None
        if affine is None:
            raise OutputError(f"case {case!r}: the map has no affine; give it as a MetaTensor")
        try:
            if resampled:
                finding = f"its slices are not those of the files any more ({resampled})"
                raise UnfitSourceError(f"case {case!r}", finding, "leave DICOM results out")
            source = read_source(source_files, affine, values.shape)
            if source is None:
                finding = "the scan was not read from DICOM files"
                raise UnfitSourceError(f"case {case!r}", finding, "leave DICOM results out, or give a DICOM series")
            source = replace(source, remarks=remarks)
            content = CaseContent(case, values, img, labels, candidates, scan, dict(scores or {}))
            # All objects are made before the first is written, so that a report and its segments are from the same run.
            results = dicom_objects(tuple(self.layouts), content, source, described(self.meta), self.map_dtype)
            for kind, result in results.items():
                self._write(kind, result, case)
        except UnfitSourceError as refusal:
            if self.strict:
                raise
            self.remove(case)
            # Not the error itself, which names the source's folder.
            _logger.warning("case %r: %s, so it has no DICOM results; %s", case, refusal.finding, refusal.remedy)
            return [ResultWarning("no-dicom-results", f"no DICOM results: {refusal.finding}")]
        for warning in source.warnings:
            _logger.warning("case %r: %s", case, warning.sentence)
        return list(source.warnings)

    def remove(self, case: str) -> None:
        """Remove the objects of a case, which an earlier run may have written.

        Args:
            case: id of the case.
        """
        for layout in self.layouts.values():
            folder = layout.output_dir / case
            if folder.is_dir():
                layout.filename(subject=case).unlink(missing_ok=True)

    def _write(self, kind: str, result: Dataset | None, case: str) -> None:
        path = self.layouts[kind].filename(subject=case)
        if result is None:
            path.unlink(missing_ok=True)
            _logger.info("case %r: no lesion candidates, so no %s", case, path.name)
            return
        with atomic_path(path) as temporary, header_errors(f"{case}/{path.name}"):
            result.save_as(temporary, enforce_file_format=True)
        _logger.info("wrote %s", path)


class SaveDicomd(CaseWriter):
    """Dictionary form of :class:`SaveDicom`.

    It reads the map, ``"<key>_labels"`` and ``"<key>_candidates"`` of ``LesionCandidatesd``, the p-values of
    ``CalibratedCandidatesd``, ``"case"``, and the paths of the scan's files, which are in the meta data under
    ``source_files``.

    Args:
        keys: key of the anomaly map, on the scan's grid. Only one key, because a case has one file of each kind.
        output_dir: see :class:`SaveDicom`.
        kinds: see :class:`SaveDicom`.
        meta: see :class:`SaveDicom`.
        map_dtype: see :class:`SaveDicom`.
        strict: see :class:`SaveDicom`.
        image_key: key of the scan. Its meta data name the files if the meta data of the map do not. ``"sc"`` shows it.
        case_key: key of the case id.
        allow_missing_keys: do nothing if the data do not have the key.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> scan = Path(tempfile.mkdtemp()) / "scan.nii"
        >>> _ = scan.write_bytes(bytes(400))
        >>> pred = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.eye(4), meta={"source_files": str(scan)})
        >>> SaveDicomd(keys="pred", output_dir="out", kinds="pm", strict=True)({"case": "anna", "pred": pred})
        Traceback (most recent call last):
        ...
        monai_zsad.writers.dicom.references.UnfitSourceError: case 'anna': the scan was not read from DICOM files...
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike[str] = "./",
        kinds: Sequence[str] = _USUAL,
        meta: Meta = None,
        map_dtype: str = "float32",
        strict: bool = False,
        image_key: str = "image",
        case_key: str = "case",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, meta, allow_missing_keys)
        self.saver = SaveDicom(output_dir, kinds, meta, map_dtype, strict)
        self.image_key = image_key
        self.case_key = case_key

    def write(self, data: Mapping[Hashable, Any], key: str) -> list[ResultWarning]:
        """Write the objects for one key; see :class:`SaveDicom`.

        Raises:
            OutputError: if the candidates are missing, or :class:`SaveDicom` raises it.
        """
        labels, candidates = data.get(f"{key}_labels"), data.get(f"{key}_candidates")
        if "seg" in self.saver.layouts and (labels is None or candidates is None):
            raise OutputError(
                f"no '{key}_labels' and '{key}_candidates' in the data: put LesionCandidatesd before SaveDicomd, "
                "or write the parametric map (pm) alone"
            )
        scores = {"p_values": data.get(f"{key}_p_values"), "volume_p_value": data.get("volume_p_value")}
        scores["volume_score"] = None if data.get("volume_score") is None else float(data["volume_score"])
        return self.saver._save(
            *(data[key], labels, candidates or [], self.files(data, key), str(data[self.case_key])),
            scan=data.get(self.image_key),
            scores=scores,
            resampled=self._resampled(data, key),
            remarks=(UNFAMILIAR_WARNING,) if data.get("unfamiliar") else (),
        )

    def _resampled(self, data: Mapping[Hashable, Any], key: Hashable) -> str:
        """Codes of repairs that created slices which do not exist in the files."""
        found: set[str] = set()
        for name in (key, self.image_key):
            if isinstance(data.get(name), MetaTensor):
                found |= set(str(data[name].meta.get("warning_codes") or "").split()) & _RESAMPLED
        return ", ".join(sorted(found))

    def files(self, data: Mapping[Hashable, Any], key: Hashable) -> list[str]:
        """Paths of the scan's files, as the meta data of the map or of the scan name them.

        Args:
            data: of the case.
            key: of the map.

        Returns:
            The paths; empty if neither names any.
        """
        for name in (key, self.image_key):
            found = data[name].meta.get("source_files") if isinstance(data.get(name), MetaTensor) else None
            if found:
                return str(found).splitlines()
        return []


SaveDicomD = SaveDicomDict = SaveDicomd

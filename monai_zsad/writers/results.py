"""All files of a case, written by one transform."""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, ZsadError
from monai_zsad.flags import parse_flag, parse_report
from monai_zsad.writers.base import CaseWriter, RunSettings
from monai_zsad.writers.dicom import SaveDicomd
from monai_zsad.writers.dicom.parametric_map import MAP_TYPES
from monai_zsad.writers.facts import Meta, ResultWarning, with_warnings, without_paths
from monai_zsad.writers.figures.preview import SavePreviewd
from monai_zsad.writers.labels import SaveLabelsd
from monai_zsad.writers.nifti import SaveCased
from monai_zsad.writers.pages.report import SaveReportd
from monai_zsad.writers.records.findings import SaveFindingsd
from monai_zsad.writers.records.manifest import SaveManifestd
from monai_zsad.writers.records.scores import SaveScoresd

__all__ = ["SaveResultsD", "SaveResultsDict", "SaveResultsd"]

_RECORDS = (SaveFindingsd, SaveScoresd, SaveManifestd)
# Voxels of a map that is written while figures are drawn. A larger one is written alone, as both take memory.
_LARGEST_BESIDE = 1 << 26
_TILE = 16
_logger = logging.getLogger(__name__)


class SaveResultsd(CaseWriter):
    """Write all files of a case: map, preview, label map, DICOM objects, report, findings, scores and manifest.

    A ``Compose`` of the single writers does the same. But then each writer needs the folder, the model and the settings
    again, and a wrong order of the writers causes no error. The order matters: the findings name the files that exist
    at that time, and the manifest marks the case as complete. Here the manifest is always written last.

    The map is compressed in a thread of its own, while the figures are drawn. If DICOM objects cannot be made or
    written, all other files are complete; report, records and status row then say why (:data:`RESULT_WARNINGS`).

    The transform comes after ``LesionCandidatesd`` (and ``CalibratedCandidatesd``), whose keys ``<key>_labels`` and
    ``<key>_candidates`` it reads. To add a writer, add it to ``writers`` below, and its file to
    :mod:`monai_zsad.result_files`.

    Args:
        keys: key of the anomaly map (1, X, Y, Z) on the scan's grid; one key only.
        output_dir: folder of the run. Each case has a folder in it.
        meta: the bundle's description of its model, or a function that returns it. A function is called when a case is
            written, because the weights are loaded then.
        settings: the settings of the run.
        output_ext: extension of the map, ``.nii.gz`` or ``.nii``.
        output_dtype: type of the values in the map's file, see :class:`SaveCase`. With an integer type, the parametric
            map holds integers, too (``uint16``).
        plane: slices of the preview: ``"axial"``, ``"coronal"``, ``"sagittal"``, or ``"acquisition"`` for the plane in
            which the scan was acquired.
        report: ``"full"``: an HTML report with a viewer of scan and map; ``"light"``: without the viewer, which takes
            several MB; ``"none"``. True means full, and false none.
        seg_nrrd: write the candidates for 3D Slicer, too; a bool, or ``"true"`` or ``"false"``.
        dicom: DICOM objects to write, such as ``("seg", "pm", "sr", "sc")``; for scans that were read from DICOM.
        about: what the report says about the bundle, by name: ``bundle`` and ``measured``, see
            :func:`~monai_zsad.workflow.about_bundle`.
        image_key: key of the scan (C, X, Y, Z) as it was read.
        allow_missing_keys: do nothing if the data do not have the key.

    Raises:
        ConfigurationError: if there is more than one key, or one of the writers refuses its arguments.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> volume = MetaTensor(torch.rand(1, 12, 12, 5), affine=torch.eye(4))
        >>> data = {"case": "anna", "pred": volume, "scan": volume, "volume_score": 0.5, "slice_scores": []}
        >>> data = {**data, "pred_labels": torch.zeros(1, 12, 12, 5), "pred_candidates": []}
        >>> folder = tempfile.mkdtemp()
        >>> _ = SaveResultsd(output_dir=folder, report=False)(data)
        >>> for file in sorted(Path(folder, "anna").iterdir()):
        ...     print(file.name)
        anomaly.nii.gz
        candidates.nii.gz
        findings.csv
        findings.json
        manifest.json
        preview.png
        scores.json
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        output_dir: str | os.PathLike[str] = "./",
        meta: Meta = None,
        settings: RunSettings | None = None,
        output_ext: str = ".nii.gz",
        output_dtype: DtypeLike = "float32",
        plane: str = "axial",
        report: bool | str = "full",
        seg_nrrd: bool | str = False,
        dicom: Sequence[str] = (),
        about: Mapping[str, Any] | None = None,
        image_key: str = "scan",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, meta, allow_missing_keys)
        if len(self.keys) != 1:
            raise ConfigurationError(f"keys={self.keys!r}: give one key; a case has one file of each kind")
        settings = settings or RunSettings()
        key = str(self.keys[0])
        common: dict[str, Any] = {"output_dir": output_dir}
        described: dict[str, Any] = {"keys": key, "output_dir": output_dir, "meta": meta}
        scanned: dict[str, Any] = {**described, "image_key": image_key}
        told: dict[str, Any] = {"settings": settings.findings, "run": {**(about or {}), **settings.run} or None}
        kind = parse_report(report)
        # It refuses unknown types.
        saver = SaveCased(key, output_ext=output_ext, output_dtype=output_dtype, **common)
        is_integer = np.dtype("float32" if output_dtype is None else output_dtype).kind in "iu"
        stored = MAP_TYPES[1 if is_integer else 0]
        # The manifest is written last, because it marks the case as complete.
        self.writers: list[CaseWriter] = [
            saver,
            SavePreviewd(plane=None if plane == "acquisition" else plane, labels_key=f"{key}_labels", **scanned),
            SaveLabelsd(
                f"{key}_labels",
                candidates_key=f"{key}_candidates",
                seg_nrrd=parse_flag("seg_nrrd", seg_nrrd),
                **common,
            ),
            *([SaveDicomd(kinds=dicom, map_dtype=stored, **scanned)] if dicom else []),
            *([SaveReportd(viewer=kind == "full", **told, **scanned)] if kind != "none" else []),
            SaveFindingsd(**told, **described),
            SaveScoresd(map_ext=output_ext, **described),
            SaveManifestd(settings=settings.files, **scanned),
        ]

    def write(self, data: Mapping[Hashable, Any], key: str) -> list[ResultWarning]:
        """Write all files of the case.

        Returns:
            Warnings about the results: why there are no DICOM objects, or what they lack.

        Raises:
            OutputError: if something is missing in the data, or a file other than a DICOM object cannot be written.
        """
        data = {**data, key: slice_by_slice(data[key])}
        first, *others = self.writers
        found: list[ResultWarning] = []
        with ThreadPoolExecutor(max_workers=1) as thread:
            mapped = thread.submit(first, data)
            if data[key].numel() > _LARGEST_BESIDE:
                mapped.result()
            for writer in others:
                if isinstance(writer, _RECORDS) and not mapped.done():
                    mapped.result()  # the records name the map's file
                found += self._written(writer, with_warnings(data, found), key)
            mapped.result()
        return found

    def _written(self, writer: CaseWriter, data: Mapping[Hashable, Any], key: str) -> Sequence[ResultWarning]:
        if not isinstance(writer, SaveDicomd):
            writer(data)
            return ()
        try:
            return writer.write(data, key)
        except Exception as error:
            case = str(data[writer.case_key])
            # Messages of other libraries can quote the header.
            reason = str(error) if isinstance(error, ZsadError) else type(error).__name__
            reason = without_paths(reason, writer.files(data, key), case)
            _logger.warning("case %r: DICOM results could not be written: %s", case, reason)
            _logger.debug("case %r: traceback of the failure", case, exc_info=True)
            writer.saver.remove(case)
            sentence = f"DICOM results could not be written: {reason}; --resume tries again"
            return (ResultWarning("dicom-failed", sentence),)


SaveResultsD = SaveResultsDict = SaveResultsd


def slice_by_slice(volume: NdarrayOrTensor) -> NdarrayOrTensor:
    """The same volume (C, X, Y, Z) on the CPU, with its memory in the order of NIfTI and of DICOM frames.

    All writers go through the map slice by slice. After ``Invertd``, the memory runs through the slices, so that each
    slice costs as much as sixteen. The argument gets the new memory: a large volume is not there twice.

    Args:
        volume: of any type.

    Returns:
        An equal volume; the argument itself if its memory is in this order.

    Example:
        >>> slice_by_slice(torch.zeros(1, 2, 3, 4))[0].stride()
        (1, 2, 6)
    """
    if not isinstance(volume, torch.Tensor) or volume.ndim != 4 or len(volume) != 1:
        return volume
    plain = (volume.as_tensor() if isinstance(volume, MetaTensor) else volume).detach().cpu()
    if plain[0].permute(2, 1, 0).is_contiguous():
        return volume
    values = plain[0].float().numpy() if plain.dtype is torch.bfloat16 else plain[0].numpy()
    turned = np.empty(values.shape[::-1], dtype=values.dtype)
    # Tiles that fit into the cache, as each line of memory holds voxels of sixteen slices.
    for x in range(0, values.shape[0], _TILE):
        for y in range(0, values.shape[1], _TILE):
            turned[:, y : y + _TILE, x : x + _TILE] = values[x : x + _TILE, y : y + _TILE].transpose(2, 1, 0)
    result = torch.from_numpy(turned).permute(2, 1, 0)[None]
    if volume.dtype is result.dtype and volume.device == result.device and not volume.requires_grad:
        volume.data = result
        return volume
    return MetaTensor(result).copy_meta_from(volume) if isinstance(volume, MetaTensor) else result

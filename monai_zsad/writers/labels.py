"""Lesion candidates as a label map: NIfTI, and a segmentation that 3D Slicer opens with names and colours."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from scipy import ndimage

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.result_files import CASE_FILES
from monai_zsad.writers.base import CaseLayout, CaseWriter
from monai_zsad.writers.facts import require
from monai_zsad.writers.figures.drawing import suspicion_colours
from monai_zsad.writers.files import atomic_path
from monai_zsad.writers.nifti import SaveCase

__all__ = ["SaveLabelsD", "SaveLabelsDict", "SaveLabelsd", "save_segmentation"]

_EXTENSION = CASE_FILES["segmentation"].extension
_TERMINOLOGY = "Segmentation category and type - DICOM master list"
_ANATOMY = "Anatomic codes - DICOM master list"


def save_segmentation(
    labels: NdarrayOrTensor,
    candidates: Sequence[Any],
    path: str | os.PathLike[str],
    affine: np.ndarray | None = None,
) -> Path:
    """Write candidates as a compressed ``.seg.nrrd``: a label map in LPS whose header describes each segment.

    A segment has the name ``Candidate <id>``, a colour from red (most suspicious) to yellow, the codes of SNOMED CT
    for a lesion, the peak score as tag ``monai_zsad.peak_score``, and ``LabelValue`` equal to the candidate's id.

    Args:
        labels: (X, Y, Z) or (1, X, Y, Z) of whole numbers, 0 outside of the candidates.
        candidates: ``LesionCandidate`` of every label.
        path: path that ends in ``.seg.nrrd``; its folder exists.
        affine: (4, 4), index to mm in RAS; by default the affine of ``labels``, if this is a ``MetaTensor``.

    Returns:
        ``path``.

    Raises:
        ConfigurationError: if the file name has another extension, or there is no affine.
        OutputError: if the values are not labels, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.seg.nrrd"
        >>> save_segmentation(np.zeros((2, 3, 4), np.uint8), [], file, np.eye(4)).stat().st_size > 100
        True
    """
    import itk

    target = Path(path)
    if not target.name.endswith(_EXTENSION):
        raise ConfigurationError(f"path is {str(path)!r}; 3D Slicer knows segmentations by the ending {_EXTENSION}")
    grid = labels.affine.cpu().numpy() if affine is None and isinstance(labels, MetaTensor) else affine
    if grid is None:
        raise ConfigurationError("affine is missing: give it, or a MetaTensor as labels")
    values = _label_array(labels, str(target))
    image = itk.image_from_array(np.ascontiguousarray(values.T))
    # ITK reverses the axes of an array in which only one axis is longer than 1.
    image.SetRegions([int(size) for size in values.shape])
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(grid, dtype=np.float64)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(lps[:3, :3] / spacing)
    for name, value in _segments(values, candidates).items():
        image[name] = value
    with atomic_path(target) as temporary:
        try:
            itk.imwrite(image, str(temporary), compression=True)
        except RuntimeError as error:
            raise OutputError(
                f"{target}: cannot be written by ITK ({str(error).strip().splitlines()[-1]}); free space or permission"
            ) from error
    return target


def _segments(values: np.ndarray, candidates: Sequence[Any]) -> dict[str, str]:
    """Keys of the header, as 3D Slicer's documentation of ``.seg.nrrd`` lists them."""
    from pydicom.sr.codedict import codes

    category, kind = codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion
    coded = "~".join(f"{code.scheme_designator}^{code.value}^{code.meaning}" for code in (category, kind))
    boxes = ndimage.find_objects(values)
    header = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_SourceRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    colours = suspicion_colours([found.peak_score for found in candidates])
    for index, (found, colour) in enumerate(zip(candidates, colours, strict=True)):
        box = boxes[found.id - 1] if found.id <= len(boxes) else None
        extent = (f"{part.start} {part.stop - 1}" for part in box) if box else ("0 -1",) * 3
        tags = {
            "Segmentation.Status": "inprogress",
            "TerminologyEntry": f"{_TERMINOLOGY}~{coded}~^^~{_ANATOMY}~^^~^^",
            "monai_zsad.peak_score": f"{found.peak_score:.6g}",
        }
        described = {
            "ID": f"Segment_{found.id}",
            "Name": f"Candidate {found.id}",
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{part:.6f}" for part in colour),
            "ColorAutoGenerated": "0",
            "LabelValue": str(found.id),
            "Layer": "0",
            "Extent": " ".join(extent),
            "Tags": "".join(f"{name}:{value}|" for name, value in tags.items()),
        }
        header.update({f"Segment{index}_{name}": value for name, value in described.items()})
    return header


def _label_array(labels: NdarrayOrTensor, name: str) -> np.ndarray:
    """(X, Y, Z) in uint8, or in uint16 if a label is above 255."""
    array = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    array = array[0] if array.ndim == 4 and array.shape[0] == 1 else array
    if array.ndim != 3:
        raise OutputError(f"{name}: not written, labels of shape {array.shape}; (1, X, Y, Z) or (X, Y, Z) is needed")
    most = float(array.max(initial=0))
    for dtype in (np.uint8, np.uint16):
        if most <= np.iinfo(dtype).max:
            whole = array.astype(dtype)
            if np.array_equal(whole, array):
                return whole
    raise OutputError(f"{name}: not written, labels are whole numbers from 0 to {np.iinfo(np.uint16).max}")


class SaveLabelsd(CaseWriter):
    """Write ``<output_dir>/<case>/candidates.nii.gz``, and on request ``candidates.seg.nrrd``.

    The label map has the scan's grid. Its type is uint8, or uint16 for more than 255 candidates. MONAI's ``SaveImaged``
    was not enough for the reasons that :class:`~monai_zsad.writers.SaveCase` names. MONAI's ``ITKWriter`` cannot write
    the header that describes the segments.

    Args:
        keys: label maps (1, X, Y, Z), such as ``LesionCandidatesd`` adds.
        output_dir: folder of the run.
        candidates_key: key of the candidates; needed for ``seg_nrrd``.
        seg_nrrd: also write the segmentation for 3D Slicer, by :func:`save_segmentation`.
        output_postfix: end of both file names, before the extension.
        output_ext: extension of the label map, ``.nii.gz`` or ``.nii``.
        allow_missing_keys: skip keys that are not in the data.

    Raises:
        ConfigurationError: if the extension is not a NIfTI extension.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> labels = MetaTensor(torch.zeros(1, 2, 3, 4, dtype=torch.uint8), affine=torch.eye(4))
        >>> data = {"pred_labels": labels, "pred_candidates": [], "case": "anna"}
        >>> _ = SaveLabelsd(output_dir=folder, seg_nrrd=True)(data)
        >>> sorted(file.name for file in Path(folder, "anna").iterdir())
        ['candidates.nii.gz', 'candidates.seg.nrrd']
    """

    def __init__(
        self,
        keys: KeysCollection = "pred_labels",
        output_dir: str | os.PathLike[str] = "./",
        candidates_key: str = "pred_candidates",
        seg_nrrd: bool = False,
        output_postfix: str = CASE_FILES["candidates"].postfix,
        output_ext: str = ".nii.gz",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys=allow_missing_keys)
        self.candidates_key = candidates_key
        self.savers = {
            dtype: SaveCase(output_dir, output_postfix, output_ext, dtype) for dtype in (np.uint8, np.uint16)
        }
        self.segmentation = CaseLayout(output_dir, output_postfix, _EXTENSION, makedirs=True) if seg_nrrd else None

    def write(self, data: Mapping[Hashable, Any], key: str) -> None:
        """Write the files for one key.

        Raises:
            OutputError: if the values are not labels, candidates are missing, or a file cannot be written.
        """
        require(data, {"case": "ScanReader or find_scans"})
        case, labels = str(data["case"]), data[key]
        values = _label_array(labels, case)
        volume = torch.from_numpy(values[None])
        if isinstance(labels, MetaTensor):
            # Only the affine, because meta data may contain texts of the source, such as names.
            volume = MetaTensor(volume, affine=labels.affine)
        self.savers[values.dtype.type](volume, case)
        if self.segmentation is not None:
            require(data, {self.candidates_key: "LesionCandidatesd"})
            grid = labels.affine.cpu().numpy() if isinstance(labels, MetaTensor) else np.eye(4)
            save_segmentation(values, data[self.candidates_key], self.segmentation.filename(subject=case), grid)


SaveLabelsD = SaveLabelsDict = SaveLabelsd

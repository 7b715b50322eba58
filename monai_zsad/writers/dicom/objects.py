"""All DICOM objects of a case, made together, so that each refers to the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from monai.config import NdarrayOrTensor

from monai_zsad.errors import OutputError
from monai_zsad.writers.dicom.capture import dicom_capture
from monai_zsad.writers.dicom.parametric_map import dicom_parametric_map
from monai_zsad.writers.dicom.report import dicom_report
from monai_zsad.writers.dicom.segmentation import Candidate, dicom_segmentation
from monai_zsad.writers.dicom.source import SourceSeries
from monai_zsad.writers.figures.views import on_grid

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["CaseContent", "dicom_objects", "map_values"]


class CaseContent(NamedTuple):
    """What the objects of a case show.

    Attributes:
        case: id of the case.
        values: map (X, Y, Z), float32, finite.
        img: the same map (1, X, Y, Z) with its affine.
        labels: (1, X, Y, Z) label map of the candidates.
        candidates: most suspicious first.
        scan: (C, X, Y, Z), for the capture.
        scores: ``p_values``, ``volume_p_value`` and ``volume_score``, if they exist.
    """

    case: str
    values: np.ndarray
    img: NdarrayOrTensor
    labels: NdarrayOrTensor | None
    candidates: Sequence[Candidate]
    scan: NdarrayOrTensor | None
    scores: Mapping[str, Any]


def dicom_objects(
    kinds: Sequence[str], content: CaseContent, source: SourceSeries, model: Mapping[str, Any], map_dtype: str
) -> dict[str, Dataset | None]:
    """The objects of a case; None for a segmentation without candidates.

    Args:
        kinds: some of ``"seg"``, ``"pm"``, ``"sr"``, ``"sc"``.
        content: what they show.
        source: the series that the map was made from.
        model: the bundle's description of its model.
        map_dtype: see :func:`dicom_parametric_map`.

    Returns:
        The objects by kind.

    Raises:
        OutputError: if map, label map and candidates do not fit together, or the source's header cannot be used.
    """
    scores = dict(content.scores)
    volume_score = scores.pop("volume_score", None)
    results: dict[str, Dataset | None] = {}
    if "pm" in kinds:
        results["pm"] = dicom_parametric_map(content.values, source, model, map_dtype)
    if "seg" in kinds:
        results["seg"] = _segmentation(content, source, model)
    if "sr" in kinds:
        results["sr"] = dicom_report(content.candidates, source, model, results["seg"], results.get("pm"), **scores)
    if "sc" in kinds:
        if content.scan is None:
            raise OutputError(f"case {content.case!r}: a secondary capture needs the scan; give it, or leave 'sc' out")
        scan = on_grid(content.scan, content.img)
        results["sc"] = dicom_capture(scan, content.img, content.labels, source, model, volume_score)
    return results


def map_values(img: NdarrayOrTensor, case: str) -> np.ndarray:
    """The map (X, Y, Z) float32, checked."""
    values = img.detach().cpu().float().numpy() if isinstance(img, torch.Tensor) else np.asarray(img)
    if values.ndim != 4 or values.shape[0] != 1:
        raise OutputError(f"case {case!r}: the map has the shape {tuple(values.shape)}; give (1, X, Y, Z)")
    if not np.isfinite([values.min(), values.max()]).all():
        bad = values.size - int(np.count_nonzero(np.isfinite(values)))
        raise OutputError(
            f"case {case!r}: DICOM not written, {bad} of {values.size} values are NaN or infinite; "
            "run in float32 (amp off)"
        )
    return values[0]


def _segmentation(content: CaseContent, source: SourceSeries, model: Mapping[str, Any]) -> Dataset | None:
    labels, case, shape = content.labels, content.case, content.values.shape
    if not content.candidates:
        return None
    array = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if array.shape != (1, *shape):
        raise OutputError(
            f"case {case!r}: the label map has the shape {tuple(array.shape)}, the map {(1, *shape)}; write both on "
            "the scan's grid"
        )
    whole = array[0].astype(np.uint16)
    if array.dtype.kind != "u" and not np.array_equal(whole, array[0]):
        raise OutputError(f"case {case!r}: the label map holds values other than whole numbers from 0 to 65535")
    return dicom_segmentation(whole, content.candidates, source, model)

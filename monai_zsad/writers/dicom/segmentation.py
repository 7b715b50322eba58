"""Lesion candidates as a binary DICOM Segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from monai_zsad.errors import OutputError
from monai_zsad.writers.dicom.identity import algorithm, identity, remarks
from monai_zsad.writers.dicom.source import SourceSeries, header_errors

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Candidate", "dicom_segmentation"]


class Candidate(Protocol):
    """The attributes of a lesion candidate that the writers use."""

    @property
    def id(self) -> int:
        """Its value in the label map."""

    @property
    def volume_mm3(self) -> float:
        """Volume in mm3."""

    @property
    def peak_score(self) -> float:
        """Largest value of the map."""

    @property
    def mean_score(self) -> float:
        """Mean of the map."""


def dicom_segmentation(
    labels: np.ndarray, candidates: Sequence[Candidate], source: SourceSeries, model: Mapping[str, Any]
) -> Dataset:
    """A DICOM SEG with one binary segment for each candidate, on the source's frames.

    Frames without a pixel of a segment are left out, as the standard allows. Segment 1 is the first candidate. Every
    frame names its segment. If there is one segment only, highdicom names it once for all frames, and several readers
    do not find it there, among them highdicom's own reports.

    Args:
        labels: (X, Y, Z) uint8 or uint16, the candidates' ids and 0, on the source's grid.
        candidates: at least one; their order is that of the segments.
        source: see :func:`read_source`.
        model: the bundle's description of its model.

    Returns:
        highdicom's ``Segmentation``, not yet written.

    Raises:
        OutputError: if there is no candidate, one has no voxel, or the source's header cannot be used.
    """
    import highdicom
    from pydicom.sr.codedict import codes

    if not candidates:
        raise OutputError("no candidates: a DICOM segmentation needs at least one segment")
    present = np.zeros(np.iinfo(np.uint16).max + 1, dtype=bool)
    present[labels.ravel()] = True
    numbers = np.zeros(present.size, dtype=np.uint16)
    for number, candidate in enumerate(candidates, start=1):
        if not (1 <= candidate.id < present.size and present[candidate.id]):
            raise OutputError(f"candidate {candidate.id} has no voxel in the label map; write both from one run")
        numbers[candidate.id] = number
    made_by = algorithm(model)
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"Lesion candidate {number}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name=made_by.name,
                family=codes.DCM.ArtificialIntelligence,
                version=made_by.version,
                parameters=made_by.parameters or None,
            ),
            tracking_uid=highdicom.UID(),
            tracking_id=f"Lesion candidate {number}",
        )
        for number in range(1, len(candidates) + 1)
    ]
    with header_errors("DICOM segmentation"):
        result = highdicom.seg.Segmentation(
            source_images=source.images,
            pixel_array=source.frames(numbers[labels]),
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            content_label="LESIONS",
            content_description=remarks(model, source)[-1],
            **identity(source, model, "seg"),
        )
        source.identify(result)
        _name_segment_in_frames(result)
    return result


def _name_segment_in_frames(segmentation: Dataset) -> None:
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" not in shared:
        return
    number = shared.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    del shared.SegmentIdentificationSequence
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        item = type(frame)()
        item.ReferencedSegmentNumber = number
        frame.SegmentIdentificationSequence = [item]

"""Measurements of the lesion candidates as a DICOM structured report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from monai_zsad.errors import OutputError
from monai_zsad.writers.dicom.identity import (
    algorithm,
    anomaly_score,
    identity,
    no_candidate,
    p_value,
    remarks,
    screening_result,
)
from monai_zsad.writers.dicom.segmentation import Candidate
from monai_zsad.writers.dicom.source import SourceSeries, header_errors

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["dicom_report"]


def dicom_report(
    candidates: Sequence[Candidate],
    source: SourceSeries,
    model: Mapping[str, Any],
    segmentation: Dataset | None = None,
    parametric_map: Dataset | None = None,
    p_values: Sequence[float] | None = None,
    volume_p_value: float | None = None,
) -> Dataset:
    """A Comprehensive 3D SR of template TID 1500: volume, peak and mean score of each candidate.

    A measurement group refers to its segment and carries the segment's tracking identifier; the scores name the
    parametric map as their source image. Without candidates, the report says that none is above the threshold.
    With a calibration, each candidate has a p-value, and the scan has one in its own group. The report is marked as
    preliminary and unverified.

    Args:
        candidates: candidates in the order of the segments.
        source: see :func:`read_source`.
        model: the bundle's description of its model.
        segmentation: result of :func:`dicom_segmentation`; needed if there are candidates.
        parametric_map: result of :func:`dicom_parametric_map`.
        p_values: p-values of the candidates, in [0, 1]; ``None`` without a calibration.
        volume_p_value: p-value of the scan's score, in [0, 1]; ``None`` without a calibration.

    Returns:
        highdicom's ``Comprehensive3DSR``, not yet written.

    Raises:
        OutputError: if candidates and segments or p-values differ in number, or the source's header cannot be used.
    """
    import highdicom
    from highdicom import sr
    from pydicom.sr.codedict import codes

    segments = [] if segmentation is None else list(segmentation.SegmentSequence)
    if len(segments) != len(candidates):
        raise OutputError(f"{len(candidates)} candidates, but {len(segments)} segments: write both from one run")
    if p_values is not None and len(p_values) != len(candidates):
        raise OutputError(f"{len(candidates)} candidates, but {len(p_values)} p-values: write both from one run")
    values: Sequence[float | None] = [None] * len(candidates) if p_values is None else p_values
    about = identity(source, model, "sr")
    device = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=highdicom.UID(),
            name=about["manufacturer_model_name"],
            manufacturer_name=about["manufacturer"],
            model_name=about["manufacturer_model_name"],
        ),
    )
    procedures = {"CT": codes.LN.CTUnspecifiedBodyRegion, "MR": codes.LN.MRIUnspecifiedBodyRegion}
    with header_errors("DICOM structured report"):
        report = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=device),
            procedure_reported=procedures.get(str(source.images[0].get("Modality")), codes.SCT.ImagingProcedure),
            imaging_measurements=[
                *(
                    _group(candidate, segmentation, segment, parametric_map, model, p)
                    for candidate, segment, p in zip(candidates, segments, values, strict=True)
                ),
                *([] if candidates else [_nothing_found()]),
                *([] if volume_p_value is None else [_whole_scan(volume_p_value)]),
            ],
            title=codes.DCM.ImagingMeasurementReport,
        )
        for sentence in remarks(model, source):
            report[0].ContentSequence.append(
                sr.TextContentItem(codes.DCM.Comment, sentence, relationship_type=sr.RelationshipTypeValues.CONTAINS)
            )
        results = [result for result in (segmentation, parametric_map) if result is not None]
        document = sr.Comprehensive3DSR(
            evidence=[*source.images, *results], content=report[0], is_complete=True, **about
        )
        source.identify(document)
    return document


def _group(
    candidate: Candidate,
    segmentation: Dataset | None,
    segment: Dataset,
    parametric_map: Dataset | None,
    model: Any,
    p: float | None,
) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    score = sr.CodedConcept.from_code(anomaly_score())
    maps = [sr.SourceImageForMeasurement.from_source_image(parametric_map)] if parametric_map is not None else None
    made_by = algorithm(model)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
        referenced_segment=sr.ReferencedSegment.from_segmentation(segmentation, int(segment.SegmentNumber)),
        finding_category=codes.SCT.MorphologicallyAbnormalStructure,
        finding_type=codes.SCT.Lesion,
        algorithm_id=sr.AlgorithmIdentification(
            name=made_by.name,
            version=made_by.version,
            parameters=[f"{name}={value}" for name, value in made_by.parameters.items()] or None,
        ),
        measurements=[
            sr.Measurement(
                name=codes.SCT.Volume, value=round(candidate.volume_mm3, 3), unit=codes.UCUM.CubicMillimeter
            ),
            *(
                sr.Measurement(
                    name=score,
                    value=round(value, 6),
                    unit=codes.UCUM.NoUnits,
                    derivation=derivation,
                    referenced_images=maps,
                )
                for value, derivation in (
                    (candidate.peak_score, codes.SCT.Maximum),
                    (candidate.mean_score, codes.SCT.Mean),
                )
            ),
            *([] if p is None else [_p_value(p)]),
        ],
    )


def _p_value(value: float) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    return sr.Measurement(name=sr.CodedConcept.from_code(p_value()), value=value, unit=codes.UCUM.NoUnits)


def _whole_scan(value: float) -> Any:
    import highdicom
    from highdicom import sr

    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=highdicom.UID(), identifier="Whole scan"),
        measurements=[_p_value(value)],
    )


def _nothing_found() -> Any:
    import highdicom
    from highdicom import sr

    question, answer = (sr.CodedConcept.from_code(code()) for code in (screening_result, no_candidate))
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=highdicom.UID(), identifier="No lesion candidate"),
        qualitative_evaluations=[sr.QualitativeEvaluation(question, answer)],
    )

"""The anomaly map as a DICOM Parametric Map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.writers.dicom.identity import anomaly_score, identity, remarks
from monai_zsad.writers.dicom.source import SourceSeries, header_errors

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["MAP_TYPES", "dicom_parametric_map"]

MAP_TYPES = ("float32", "uint16")
"""Types that the map's values can be stored in."""


def dicom_parametric_map(
    values: np.ndarray, source: SourceSeries, model: Mapping[str, Any], dtype: str = "float32"
) -> Dataset:
    """A DICOM Parametric Map of the score, one frame for each frame of the source.

    ``"float32"`` frames are in the order of their positions along the cross product of row and column direction.

    Args:
        values: (X, Y, Z), finite, without units, on the source's grid; usually within [0, 1].
        source: see :func:`read_source`.
        model: the bundle's description of its model.
        dtype: ``"float32"`` keeps every value; the standard has no compression for it. ``"uint16"`` stores the range
            [0, 1], or the range of the map if that is wider, in 65535 steps; a real world value mapping gives the
            values. It is compressed without loss (JPEG-LS), to about an eighth of the size, except
            where that would make a frame larger.

    Returns:
        highdicom's ``ParametricMap``, not yet written.

    Raises:
        ConfigurationError: for another ``dtype``.
        OutputError: if a value is not finite, or the source's header cannot be used.
    """
    import highdicom
    from pydicom.sr.codedict import codes
    from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

    if dtype not in MAP_TYPES:
        raise ConfigurationError(f"dtype={dtype!r}: accepted are {' and '.join(map(repr, MAP_TYPES))}")
    if not np.isfinite([values.min(), values.max()]).all():
        bad = values.size - int(np.count_nonzero(np.isfinite(values)))
        raise OutputError(f"{bad} of {values.size} values of the map are NaN or infinite; run in float32 (amp off)")
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    slope, intercept = 1.0, 0.0
    stored, first, last = values.astype(np.float32, copy=False), low, high
    if dtype == "uint16":
        first, last = 0, np.iinfo(np.uint16).max
        slope, intercept = (high - low) / last, low
        stored = np.empty_like(values, dtype=np.uint16)
        for own, out in zip(
            values.T, stored.T, strict=True
        ):  # slice by slice, because float64 needs four times as much
            out[...] = np.rint((own.astype(np.float64) - low) / slope)
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label="SCORE",
        lut_explanation="Anomaly score, larger is more suspicious",
        unit=codes.UCUM.NoUnits,
        value_range=(first, last),
        slope=slope,
        intercept=intercept,
        quantity_definition=highdicom.sr.CodedConcept.from_code(anomaly_score()),
    )
    window = highdicom.VOILUTTransformation(window_center=(first + last) / 2, window_width=float(last - first))
    frames = source.frames(stored)

    def make(syntax: str) -> Dataset:
        return highdicom.pm.ParametricMap(
            source_images=source.images,
            pixel_array=frames,
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[mapping],
            voi_lut_transformations=[window],
            content_label="ANOMALY_MAP",
            content_description=remarks(model, source)[-1],
            transfer_syntax_uid=syntax,
            **identity(source, model, "pm"),
        )

    with header_errors("DICOM parametric map"):
        try:
            result = make(JPEGLSLossless if dtype == "uint16" else ExplicitVRLittleEndian)
        except RuntimeError:
            # The encoder has no room for a frame that compression makes larger, such as a very small one.
            result = make(ExplicitVRLittleEndian)
        if dtype == "float32":
            result = _reverse_frames(result)
        source.identify(result)
    return result


def _reverse_frames(result: Dataset) -> Dataset:
    """Order the frames along the cross product of row and column direction; highdicom sorts them against it.

    Every frame keeps its position, its source image and its dimension index values. OHIF's viewer takes the frames in
    the order of the file, for a volume that it sorts in this direction.
    """
    import highdicom

    result.PerFrameFunctionalGroupsSequence = list(reversed(result.PerFrameFunctionalGroupsSequence))
    frames = np.frombuffer(result.FloatPixelData, dtype="<f4").reshape(-1, result.Rows, result.Columns)
    result.FloatPixelData = frames[::-1].tobytes()
    # highdicom's object has a table of its frames, which this makes anew.
    return highdicom.pm.ParametricMap.from_dataset(result, copy=False)

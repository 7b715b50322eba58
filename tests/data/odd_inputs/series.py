"""DICOM series with odd headers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.valuerep import DSfloat

from tests.data.odd_inputs.catalogue import AXIAL, Odd, kind, series_truth
from tests.data.samples import CT, write_series


def along_z(step: float = 3.0, **at: Callable[[int], float]) -> Callable[[int], list[float]]:
    """Slice positions on an axial stack; ``x``, ``y``, ``z`` add to them."""
    return lambda i: [at.get("x", lambda _: 0)(i), at.get("y", lambda _: 0)(i), step * i + at.get("z", lambda _: 0)(i)]


def long_decimals(index: int) -> list[DSfloat]:
    texts = ("-11.0000000000000000", "7.00000000000000000000", f"{40 + 3 * index}.000000000000000000")
    return [DSfloat(text, validation_mode=pydicom.config.IGNORE) for text in texts]


SERIES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("ok", {}),
    "oblique": ("ok", {"orientation": (0.8, 0.6, 0, 0, 0, -1)}),
    "sagittal": ("ok", {"orientation": (0, 1, 0, 0, 0, -1)}),
    "no_extension": ("ok", {"suffix": ""}),
    "numbered_names": ("ok", {"suffix": ".0001"}),
    "negative_spacing_between_slices": ("ok", {"SpacingBetweenSlices": -2.5}),
    "wrong_spacing_between_slices": ("ok", {"SpacingBetweenSlices": 99.0}),
    "single_slice": ("ok", {"slices": 1}),
    "two_slices": ("ok", {"slices": 2}),
    "no_rescale_mr": ("ok", {}),
    "unsigned": ("ok", {"PixelRepresentation": 0, "PixelData": lambda i: np.arange(35, dtype="<u2").tobytes()}),
    "rescale_differs": ("ok", {"sop_class": CT, "modality": "CT"}),
    "rescale_fraction": ("ok", {"RescaleSlope": lambda i: 0.1 * (i + 1), "RescaleIntercept": -0.5}),
    "hidden_jitter": ("ok", {"orientation": AXIAL, "ImagePositionPatient": along_z(z=lambda i: 0.004 * (i % 2))}),
    "empty_patient_id": ("ok", {"PatientID": ""}),
    "monochrome1": ("repaired monochrome1", {"PhotometricInterpretation": "MONOCHROME1"}),
    "overlong_decimals": ("repaired overlong-decimals", {"orientation": AXIAL, "ImagePositionPatient": long_decimals}),
    "gap": ("refused missing-slices", {"ImagePositionPatient": along_z(z=lambda i: 9.0 * (i > 3))}),
    "one_slice_missing": ("refused missing-slices", {"ImagePositionPatient": along_z(z=lambda i: 3.0 * (i > 2))}),
    "uneven": ("refused uneven-slices", {"ImagePositionPatient": along_z(z=lambda i: 0.4 * (i == 3))}),
    "growing_steps": ("refused uneven-slices", {"ImagePositionPatient": along_z(z=lambda i: 0.03 * i * i)}),
    "gantry_tilt": ("refused tilted-gantry", {"ImagePositionPatient": along_z(y=lambda i: 0.6 * i)}),
    "small_tilt": ("refused tilted-gantry", {"ImagePositionPatient": along_z(y=lambda i: 0.06 * i)}),
    "one_slice_sideways": ("refused tilted-gantry", {"ImagePositionPatient": along_z(x=lambda i: 2.0 * (i == 2))}),
    "different_at_one_place": ("refused duplicate-slices", {"ImagePositionPatient": lambda i: [0, 0, 3.0 * max(i, 1)]}),
    "all_at_one_place": ("refused duplicate-slices", {"ImagePositionPatient": [0, 0, 0]}),
    "no_position": ("refused no-geometry", {"ImagePositionPatient": None}),
    "no_orientation": ("refused no-geometry", {"ImageOrientationPatient": None}),
    "no_pixel_spacing": ("refused no-geometry", {"PixelSpacing": None}),
    "zero_pixel_spacing": ("refused no-geometry", {"PixelSpacing": [0, 0.5]}),
    "skewed_orientation": ("refused bad-affine", {"ImageOrientationPatient": [1, 0, 0, 0.7, 0.7, 0]}),
    "zero_orientation": ("refused bad-affine", {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}),
    "no_frame_of_reference": ("refused no-frame-of-reference", {"FrameOfReferenceUID": None}),
    "several_frames_of_reference": (
        "refused several-frames-of-reference",
        {"FrameOfReferenceUID": lambda i: f"1.2.{i // 3}"},
    ),
    "several_patients": ("refused several-patients", {"PatientID": lambda i: f"P{i // 3}"}),
    "mixed_sizes": (
        "refused mixed-sizes",
        {"Rows": lambda i: 5 if i else 7, "Columns": lambda i: 7 if i else 5},
    ),
    "mixed_orientations": (
        "refused mixed-orientations",
        {"ImageOrientationPatient": lambda i: list(AXIAL) if i else [0, 1, 0, 1, 0, 0]},
    ),
    "mixed_spacings": ("refused mixed-spacings", {"PixelSpacing": lambda i: [0.75, 0.5 if i else 0.6]}),
    "ct_without_rescale": ("refused no-rescale", {"sop_class": CT, "Modality": "CT"}),
    "zero_rescale": ("refused bad-rescale", {"RescaleSlope": 0, "RescaleIntercept": 0}),
    "colour_slices": ("refused colour", {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}),
    "palette": ("refused colour", {"PhotometricInterpretation": "PALETTE COLOR"}),
    "frames_without_positions": ("refused frames-without-positions", {"NumberOfFrames": 2}),
    "one_slice_without_pixels": (
        "refused no-pixels",
        {"PixelData": lambda i: None if i == 2 else b"\1" * 70},
    ),
    "one_slice_cut_short": ("refused undecodable", {"PixelData": lambda i: b"\1" * (30 if i == 2 else 70)}),
    "huge_slices": ("refused too-large", {"Rows": 65535, "Columns": 65535}),
    "no_thickness": ("refused no-thickness", {"slices": 1, "SliceThickness": None}),
    "mosaic": ("refused frames-without-positions", {"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}),
    "high_bit_elsewhere": ("refused undecodable", {"BitsStored": 12}),
    "empty_rescale": (
        "refused no-rescale",
        {"sop_class": CT, "modality": "CT", "RescaleSlope": "", "RescaleIntercept": ""},
    ),
    "nan_rescale": ("refused bad-rescale", {"RescaleSlope": 1, "RescaleIntercept": lambda i: math.nan if i else 0}),
    "several_studies": ("refused several-series", {"StudyInstanceUID": lambda i: f"1.2.{i // 3}"}),
    "several_modalities": ("refused several-series", {"Modality": lambda i: "PT" if i else "MR"}),
    "last_digits_differ": (
        "ok",
        {
            "orientation": AXIAL,
            "ImageOrientationPatient": lambda i: [1, 0, (4.9e-6, 5.1e-6)[i % 2], 0, 1, 0],
            "PixelSpacing": lambda i: [0.75, (0.5000049, 0.5000051)[i % 2]],
            "EchoTime": lambda i: (9.994, 9.996)[i % 2],
        },
    ),
    "constant_series": ("refused constant", {"PixelData": b"\1" * 70}),
}


def _add_series(name: str, verdict: str, changes: dict[str, Any]) -> None:
    def build(folder: Path) -> Odd:
        options = dict(changes)
        if verdict.startswith("refused"):
            options.setdefault("orientation", AXIAL)
        files = write_series(folder / "s", **options)
        return Odd(folder / "s", () if verdict.startswith("refused") else [series_truth(files)])

    build.__name__ = name
    kind(verdict)(build)


for _name, (_verdict, _changes) in SERIES.items():
    _add_series(_name, _verdict, _changes)

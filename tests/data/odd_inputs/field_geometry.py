"""Geometry of DICOM series as people reported it to the makers of other tools; each kind names the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
from pydicom.valuerep import DSfloat

from tests.data.odd_inputs.catalogue import AXIAL, Odd, kind, series_truth
from tests.data.odd_inputs.images import picture_truth, radiographs
from tests.data.odd_inputs.series import along_z
from tests.data.samples import write_series


def as_written(*texts: str) -> list[DSfloat]:
    """Decimal numbers with exactly these characters."""
    return [DSfloat(text, auto_format=False) for text in texts]


FIELD_SERIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "instance_numbers_missing": (
        "ok", "dicom2nifti 7: slices without InstanceNumber are ordered by position", {"InstanceNumber": None}
    ),
    "instance_numbers_shuffled": (
        "ok", "dcm2niix 786: the instance numbers are not in spatial order",
        {"InstanceNumber": lambda i: 3 * i % 7},
    ),
    "instance_numbers_all_equal": (
        "ok", "dcm2niix 529: instance numbers that do not tell slices apart", {"InstanceNumber": 1}
    ),
    "slice_locations_that_mislead": (
        "ok", "dwv 560: SliceLocation counts in the other direction", {"SliceLocation": lambda i: -7.5 * i}
    ),
    "slices_that_overlap": (
        "ok", "SIFT3D 14, dcm2niix 555: SliceThickness is larger than the step", {"SliceThickness": 10}
    ),
    "thickness_zero": (
        "ok", "vtk-dicom 164: SliceThickness says nothing about the step", {"SliceThickness": 0}
    ),
    "slices_far_apart": (
        "ok", "SimpleITK 2292: a few slices that are 257.5 mm apart", {"slices": 3, "step": 257.5}
    ),
    "very_thin_slices": (
        "ok", "nnU-Net 538: voxels whose lengths differ by a factor of 50", {"step": 0.015}
    ),
    "lying_on_the_side": (
        "ok", "dcm2niix 594: HFDL, so that the columns run along the body's left-right axis",
        {"orientation": (0, -1, 0, 1, 0, 0), "PatientPosition": "HFDL"},
    ),
    "feet_first_prone": (
        "ok", "dcm2niix 238, SlicerDMRI 79: FFP, and the normal points to the feet",
        {"orientation": (1, 0, 0, 0, -1, 0), "PatientPosition": "FFP"},
    ),
    "coronal": (
        "ok", "MONAI Label 1336: coronal, and not quite along an axis",
        {"orientation": (0.9999500004, 0.0099998333, 0, 0, 0, -1)},
    ),
    "double_oblique": (
        "ok", "3D Slicer 7987: oblique in two directions, with a negative SpacingBetweenSlices",
        {"orientation": (0.8, 0.6, 0, -0.36, 0.48, -0.8), "SpacingBetweenSlices": -3},
    ),
    "tiny_numbers_in_the_orientation": (
        "ok", "dcm2niix 440: -2.05103e-10 for 0, another one in each slice",
        {
            "orientation": AXIAL,
            "ImageOrientationPatient": lambda i: as_written("1", f"-{i + 1}.05103e-10", "0", "2.05e-10", "1", "-0.0"),
        },
    ),
    "positions_in_scientific_notation": (
        "ok", "dcm2niix 440: 1.2e+02 and leading signs",
        {"orientation": AXIAL, "ImagePositionPatient": lambda i: as_written("+1.1e1", "-7E+00", f"{3 * i}e0")},
    ),
    "spaces_within_numbers": (
        "ok", "3D Slicer 3569: spaces before and after the numbers",
        {"orientation": AXIAL, "ImagePositionPatient": lambda i: as_written(" -11", "7 ", f" {3 * i}.5 ")},
    ),
    "positions_in_whole_mm": (
        "repaired jitter", "dcmstack 55: a step of 12.4 mm whose positions are rounded to whole mm",
        {"orientation": AXIAL, "step": 12.4, "ImagePositionPatient": lambda i: [0, 0, round(12.4 * i)]},
    ),
    "two_stacks_that_overlap": (
        "refused uneven-slices", "cornerstone3D 998: irregular positions, the second half begins too early",
        {"slices": 8, "orientation": AXIAL, "ImagePositionPatient": along_z(z=lambda i: -4.0 * (i > 3))},
    ),
    "table_that_moved_sideways": (
        "refused tilted-gantry", "dcm2niix 888: the second half of the slices is 3.5 mm beside the first",
        {"slices": 8, "orientation": AXIAL, "ImagePositionPatient": along_z(x=lambda i: 3.5 * (i > 3))},
    ),
    "spacing_of_the_detector_only": (
        "refused no-geometry", "cornerstone3D 2057: only ImagerPixelSpacing, which is no length in the patient",
        {"orientation": AXIAL, "PixelSpacing": None, "ImagerPixelSpacing": [0.75, 0.5]},
    ),
    "aspect_ratio_for_a_spacing": (
        "refused no-geometry", "BRAINSTools 334: another field in the place of PixelSpacing, here a ratio of lengths",
        {"orientation": AXIAL, "PixelSpacing": None, "PixelAspectRatio": [3, 2]},
    ),
    "three_numbers_for_a_spacing": (
        "refused no-geometry", "cornerstoneWADOImageLoader 28: 0.2, 0, 0.2 as PixelSpacing",
        {"orientation": AXIAL, "PixelSpacing": [0.75, 0, 0.5]},
    ),
}  # fmt: skip


def _add_series(name: str, verdict: str, report: str, changes: dict[str, Any]) -> None:
    def build(folder: Path) -> Odd:
        files = write_series(folder / "s", **changes)
        return Odd(folder / "s", () if verdict.startswith("refused") else [series_truth(files)])

    build.__name__, build.__doc__ = name, report
    kind(verdict)(build)


for _name, (_verdict, _report, _changes) in FIELD_SERIES.items():
    _add_series(_name, _verdict, _report, _changes)


@kind("repaired no-position")
def radiograph_with_the_spacing_of_its_detector(folder: Path) -> Odd:
    """MONAI Deploy 280: radiographs that state ImagerPixelSpacing instead of PixelSpacing."""
    (file,) = radiographs(folder / "s", 1, PixelSpacing=None, ImagerPixelSpacing=[0.75, 0.5])
    return Odd(folder / "s", [picture_truth(pydicom.dcmread(file).pixel_array, 0.75, 0.5)])

"""The catalogue of what can be found about an input: a stable code each, for programs, reports and tests."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ACCEPTABLE", "REFUSALS", "REPAIRABLE", "REPAIRS", "Repair"]

REFUSALS: dict[str, str] = {
    # the path
    "missing-file": "the path does not exist",
    "is-folder": "a folder was given where one scan is read",
    "no-scan": "a folder or archive without any scan",
    "no-such-series": "the chosen series is not there",
    "bad-datalist": "a CSV or JSON list of scans that cannot be used",
    "bad-query": "a DICOMweb address that cannot be used, or that asks for everything",
    "server-failed": "a DICOMweb server that cannot be reached, refuses, or gives less than it lists",
    "unsafe-archive": "an archive with links, encrypted members, or members outside of its folder",
    # the file
    "empty-file": "a file of zero bytes",
    "damaged": "a file that is truncated, has a wrong checksum, or is of no known format",
    "size-mismatch": "more data in a file than its header declares",
    "too-large": "a volume, picture or archive above the size limit",
    "implausible-compression": "a file that unpacks to far more than a scan of its size can hold",
    "detached-data": "a header that names other files as its data, outside of its folder or missing",
    "no-pixels": "a DICOM file without pixel data",
    "no-codec": "compressed DICOM whose decoder is not installed",
    "undecodable": "DICOM pixel data that cannot be decoded",
    "not-an-image": "a DICOM object that is no image, such as SEG, SR or RT dose",
    # the values
    "not-real": "complex, vector or otherwise structured voxels",
    "colour": "a colour image where one grey value per pixel is needed",
    "not-3d": "a volume of other than three dimensions",
    "no-such-volume": "a chosen volume of a 4D scan that does not exist",
    "non-finite": "more NaN or infinite voxels than can be repaired",
    "constant": "every voxel has the same value",
    "no-rescale": "CT without rescale slope and intercept, so that its HU are unknown",
    "bad-rescale": "a rescale that is zero, not finite, or left to whoever reads the file",
    # the geometry
    "bad-affine": "an affine or orientation that is not finite or singular",
    "no-geometry": "position, orientation or spacing are not stated",
    "forms-disagree": "sform and qform of a NIfTI file place its voxels differently",
    "wrong-unit": "lengths in another unit than mm",
    "no-thickness": "a single slice without thickness",
    "no-frame-of-reference": "DICOM slices without FrameOfReferenceUID",
    # the series
    "several-series": "files of several series",
    "several-patients": "files of several patients under one series",
    "several-frames-of-reference": "several coordinate systems under one series",
    "several-volumes": "several echoes, time points or contrasts under one series",
    "several-multi-frame": "several multi-frame files of one series",
    "frames-without-positions": "a multi-frame file or mosaic that does not place its frames",
    "mixed-sizes": "slices of different size",
    "mixed-orientations": "slices of different orientation",
    "mixed-spacings": "slices of different pixel spacing",
    "missing-slices": "gaps between slices",
    "duplicate-slices": "different slices at one position",
    "uneven-slices": "slice distances that vary by more than 5 %",
    "tilted-gantry": "slices that are shifted sideways against each other",
    "irregular": "DICOM that forms no regular volume for another reason",
}
"""Codes of refusals (``InputError.code``), each with its meaning."""

REPAIRS: dict[str, str] = {
    "duplicates-dropped": "identical copies of slices were dropped",
    "duplicates-first": "of different slices at one position the first was kept, as asked for",
    "slices-interpolated": "missing slices were interpolated, as asked for",
    "slices-resampled": "unevenly spaced slices were resampled to one distance, as asked for",
    "tilt-resheared": "slices of a tilted gantry were resampled onto a right-angled grid, as asked for",
    "jitter": "slice distances vary a little; their mean was used",
    "monochrome1": "low values are meant to be shown bright; the values were kept as they are",
    "overlong-decimals": "decimal texts longer than DICOM allows were read in full",
    "non-finite-replaced": "few NaN or infinite voxels were replaced by the lowest value",
    "no-position": "a 2D picture without a place in space: lengths are in pixels, or in mm of the detector",
    "trailing-bytes": "a few bytes after the last voxel were ignored",
    "two-spaces": "a NIfTI file gives scanner and template coordinates; those of the sform were used",
    "pixdim-ignored": "voxel sizes in pixdim differ from the sform, which was used",
    "looks-like-mask": "a volume of few whole values, as masks have, was read as a scan",
    "set-aside": "localizers, captures or other objects beside the scan were left out",
    "unreadable-beside": "an unreadable file lies beside several series and may belong to one of them",
}
"""Codes of warnings (``meta["warning_codes"]``), each with its meaning."""

ACCEPTABLE = frozenset({"forms-disagree", "no-geometry", "no-rescale", "constant", "implausible-compression"})
"""Refusals that ``ScanReader(accept=...)`` turns into warnings of the same code."""

REPAIRABLE = frozenset({"missing-slices", "uneven-slices", "duplicate-slices", "tilted-gantry"})
"""Refusals of DICOM series that ``ScanReader(repair=...)`` turns into a repair with a warning of its own code."""


class Repair(NamedTuple):
    """A warning about a scan that was read.

    Attributes:
        code: key of :data:`REPAIRS`, or of :data:`ACCEPTABLE`.
        sentence: the finding and what was done. It stands in results that are passed on, so it names slices
            by their number, and neither files nor texts of a DICOM header.
    """

    code: str
    sentence: str

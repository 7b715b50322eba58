"""The catalogue of finding codes: what a reader can find about an input, each code with its meaning and its remedy.

A code is declared here once. Refusals, warnings, reports and tests take its meaning, its kind and its remedy from here.
To add a check, add its code to :data:`CODES`, and the check itself to the list of checks that the reader runs:

- ``CHECKS`` in ``data/checks.py`` for the voxels and the affine of every format,
- ``CHECKS`` in the modules of ``data/formats`` for a file's header,
- ``FILE_CHECKS`` in ``data/dicom/headers.py`` for each DICOM file of a series.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from monai_zsad.errors import InputError

__all__ = ["ACCEPTABLE", "CODES", "LEFT_OUT", "REFUSALS", "REPAIRABLE", "REPAIRS", "Code", "Repair", "refusal"]


@dataclass(frozen=True)
class Code:
    """A finding about an input.

    Attributes:
        kind: ``"refusal"``: the scan is not read; ``"acceptable"``: a refusal that becomes a warning by
            ``ScanReader(accept=...)``; ``"repairable"``: a refusal that becomes a repair by ``ScanReader(repair=...)``;
            ``"warning"``: the scan is read, and the finding is recorded; ``"left-out"``: the input is not a scan and
            is left out of the run on purpose.
        meaning: what was found.
        remedy: what the user can do, where a check does not name a more specific remedy; empty for warnings.
    """

    kind: Literal["refusal", "acceptable", "repairable", "warning", "left-out"]
    meaning: str
    remedy: str = ""


_COPY = "copy or export it again"
_EXPORT = "export the original series"
_GEOMETRY = "export it again with its geometry"
_SEPARATE = "put each into its own folder"

CODES: dict[str, Code] = {
    # the path
    "missing-file": Code("refusal", "the path does not exist", "give the path of a scan"),
    "is-folder": Code("refusal", "a folder was given where one scan is read", "give the files of one scan"),
    "no-scan": Code("refusal", "a folder or archive without any scan", "give the folder that holds the scans"),
    "no-such-series": Code("refusal", "the chosen series is not there", "choose another series"),
    "bad-datalist": Code("refusal", "a CSV or JSON list of scans that cannot be used", "correct the list"),
    "bad-query": Code("refusal", "a DICOMweb address that cannot be used, or that asks for everything"),
    "server-failed": Code("refusal", "a DICOMweb server that cannot be reached, refuses, or gives less than it lists"),
    "unsafe-archive": Code(
        "refusal",
        "an archive with links, encrypted members, or members outside of its folder",
        "unpack it yourself and give the folder",
    ),
    # beside the scans
    "unread-archive": Code("refusal", "an archive that is not unpacked", "unpack it and give the folder"),
    "unread-format": Code("refusal", "a file of a format that is not read", "convert it to NIfTI"),
    "closed": Code("refusal", "a folder that cannot be opened", "give yourself the right to read it"),
    "localizer": Code("left-out", "a DICOM localizer", "give the series that it was made for"),
    "capture": Code("left-out", "a DICOM secondary capture", "give the images that it shows"),
    "other-object": Code(
        "left-out",
        "a DICOM object that is not an image, such as SEG or SR, beside scans",
        "give the images that it was made from",
    ),
    "mask": Code("left-out", "a mask or a segmentation", "to screen it, give the path of the file itself"),
    "image-beside": Code("left-out", "a 2D image beside scans", "to screen it, give the path of the file itself"),
    "copy": Code("left-out", "a copy, in an archive, of a scan outside of it", "nothing is missing"),
    "earlier-results": Code("left-out", "a folder with results of an earlier run", "give the scans themselves"),
    # the file
    "empty-file": Code("refusal", "a file of zero bytes", _COPY),
    "damaged": Code("refusal", "a file that is truncated, has a wrong checksum, or has an unknown format", _COPY),
    "size-mismatch": Code("refusal", "more data in a file than its header declares", _COPY),
    "too-large": Code("refusal", "a volume, 2D image or archive above the size limit", "crop or resample it"),
    "implausible-compression": Code(
        "acceptable", "a file that unpacks to far more data than a scan of its size can hold", _COPY
    ),
    "detached-data": Code(
        "refusal",
        "a header that names other files as its data, which are outside of its folder or missing",
        "write the scan as one file",
    ),
    "no-pixels": Code("refusal", "a DICOM file without pixel data", _COPY),
    "no-codec": Code("refusal", "compressed or packed data whose decoder is not installed", "export it uncompressed"),
    "undecodable": Code("refusal", "DICOM pixel data that cannot be decoded", "export it again"),
    "wrong-bits": Code(
        "refusal",
        "pixel values that need more bits, or another sign, than the DICOM header states",
        "correct BitsStored and PixelRepresentation, or export the original series",
    ),
    "not-an-image": Code(
        "refusal",
        "a DICOM object that is not an image, for example SEG, SR or RT dose",
        "give the images that it was made from",
    ),
    # the values
    "not-real": Code(
        "refusal",
        "voxels that are complex numbers, vectors or other structures",
        "give a scan with one real number per voxel",
    ),
    "colour": Code(
        "refusal", "a colour image where one grey value per pixel is needed", "give it with one grey value per pixel"
    ),
    "transparent": Code(
        "refusal",
        "a 2D image with transparent pixels inside, whose values depend on the background",
        "save it without transparency",
    ),
    "not-3d": Code("refusal", "a volume that does not have three dimensions", "give one 3D volume"),
    "no-such-volume": Code("refusal", "a chosen volume of a 4D scan that does not exist", "choose one of them"),
    "non-finite": Code("refusal", "more NaN or infinite voxels than can be replaced", "export the scan again"),
    "constant": Code("acceptable", "every voxel has the same value", "export the scan again"),
    "no-rescale": Code("acceptable", "CT without rescale slope and intercept, so that its HU are unknown", _EXPORT),
    "bad-rescale": Code(
        "refusal", "a rescale that is zero, not finite, stated for some slices only, or not applied by readers", _EXPORT
    ),
    # the geometry
    "bad-affine": Code("refusal", "an affine or orientation that is not finite or singular", _GEOMETRY),
    "no-geometry": Code("acceptable", "position, orientation or spacing are not stated", _GEOMETRY),
    "forms-disagree": Code(
        "acceptable",
        "a header places its voxels in two ways that differ, for example sform and qform of a NIfTI file",
        "correct one of them, or set its code to 0",
    ),
    "wrong-unit": Code("refusal", "lengths in another unit than mm", "write it with a spacing in mm"),
    "no-thickness": Code("refusal", "a single slice without thickness", "give the complete series"),
    "no-frame-of-reference": Code("refusal", "DICOM slices without FrameOfReferenceUID", _EXPORT),
    # the series
    "several-series": Code("refusal", "files of several series", _SEPARATE),
    "several-patients": Code("refusal", "files of several patients under one series", _SEPARATE),
    "several-frames-of-reference": Code("refusal", "several coordinate systems under one series", _SEPARATE),
    "several-volumes": Code(
        "refusal", "several echoes, time points or contrasts under one series", "put each volume into its own folder"
    ),
    "several-multi-frame": Code("refusal", "several multi-frame files of one series", _SEPARATE),
    "frames-without-positions": Code(
        "refusal",
        "a multi-frame file or mosaic without the positions of its frames",
        "export it as single slices or enhanced DICOM",
    ),
    "mixed-sizes": Code("refusal", "slices of different size", _SEPARATE),
    "mixed-orientations": Code("refusal", "slices of different orientation", _SEPARATE),
    "mixed-spacings": Code("refusal", "slices of different pixel spacing", _SEPARATE),
    "missing-slices": Code("repairable", "gaps between slices", "export the complete series"),
    "duplicate-slices": Code("repairable", "different slices at one position", "remove the duplicates"),
    "uneven-slices": Code(
        "repairable", "slice distances that vary by more than 5 %", "give a series with one slice distance"
    ),
    "tilted-gantry": Code(
        "repairable",
        "slices that are shifted sideways against each other",
        "give a series that was corrected for the tilt",
    ),
    "irregular": Code(
        "refusal",
        "DICOM that does not form a regular volume, for another reason",
        "export the series again, complete and unchanged",
    ),
    # warnings
    "encoding-corrected": Code("warning", "DICOM pixels that are complete, but not encoded as their header states"),
    "duplicates-dropped": Code("warning", "identical copies of slices were dropped"),
    "duplicates-first": Code("warning", "of different slices at one position the first was kept, as asked for"),
    "slices-interpolated": Code("warning", "missing slices were interpolated, as asked for"),
    "slices-resampled": Code("warning", "unevenly spaced slices were resampled to one distance, as asked for"),
    "tilt-resheared": Code(
        "warning", "slices of a tilted gantry were resampled onto a right-angled grid, as asked for"
    ),
    "jitter": Code("warning", "slice distances vary a little; their mean was used"),
    "monochrome1": Code("warning", "low values are meant to be shown bright; the values were kept as they are"),
    "padding-replaced": Code("warning", "padding outside of the field of view was given the value of the background"),
    "bits-removed": Code("warning", "bits above BitsStored that are not part of the values were removed"),
    "decimal-commas": Code("warning", "decimal commas in a DICOM header were read as decimal points"),
    "overlong-decimals": Code("warning", "decimal texts longer than DICOM allows were read in full"),
    "non-finite-replaced": Code("warning", "a few NaN or infinite voxels were replaced by the lowest value"),
    "no-position": Code(
        "warning", "a 2D image without a position in space: lengths are in pixels, or in mm of the detector"
    ),
    "nearly-grey": Code("warning", "a grey image that was saved in colour, or has a tint, was read in grey"),
    "coloured-marks": Code("warning", "a grey image with few marks in colour was read in grey"),
    "colour-converted": Code("warning", "the colours of a 2D image were converted to 8 bits of red, green and blue"),
    "transparent-border": Code("warning", "the transparent border of a 2D image was read as black"),
    "further-pictures": Code("warning", "the first of several images in a JPEG file was read"),
    "misnamed": Code("warning", "a file whose name does not fit its content was read by its content"),
    "values-rescaled": Code(
        "warning", "very large, very small or nearly equal values were scaled, because 32-bit numbers cannot hold them"
    ),
    "trailing-bytes": Code("warning", "a few bytes after the last voxel were ignored"),
    "two-spaces": Code(
        "warning", "a NIfTI file gives scanner and template coordinates; the coordinates of the sform were used"
    ),
    "pixdim-ignored": Code("warning", "voxel sizes in pixdim differ from the sform, which was used"),
    "looks-like-mask": Code("warning", "a volume with few different integers, like a mask, was read as a scan"),
    "fewer-images": Code("warning", "a DICOM series has fewer images than its headers state, so slices may be missing"),
    "set-aside": Code("warning", "localizers, captures or other objects beside the scan were left out"),
    "several-volumes-split": Code("warning", "one of several volumes of a DICOM series; each of them is a case"),
    "series-joined": Code("warning", "slices with a SeriesInstanceUID each were put together as one series"),
    "unreadable-beside": Code("warning", "an unreadable file lies beside several series and may belong to one of them"),
}
"""Every code with its kind, its meaning and its remedy."""

LEFT_OUT: dict[str, str] = {name: code.meaning for name, code in CODES.items() if code.kind == "left-out"}
"""Codes of inputs that are left out on purpose, each with its meaning."""

REFUSALS: dict[str, str] = {
    name: code.meaning for name, code in CODES.items() if code.kind not in ("warning", "left-out")
}
"""Codes of refusals (``InputError.code``), each with its meaning."""

REPAIRS: dict[str, str] = {name: code.meaning for name, code in CODES.items() if code.kind == "warning"}
"""Codes of warnings (``meta["warning_codes"]``), each with its meaning."""

ACCEPTABLE = frozenset(name for name, code in CODES.items() if code.kind == "acceptable")
"""Refusals that ``ScanReader(accept=...)`` turns into warnings of the same code."""

REPAIRABLE = frozenset(name for name, code in CODES.items() if code.kind == "repairable")
"""Refusals of DICOM series that ``ScanReader(repair=...)`` turns into a repair with a warning of its own code."""


class Repair(NamedTuple):
    """A warning about a scan that was read.

    Attributes:
        code: key of :data:`REPAIRS`, or of :data:`ACCEPTABLE`.
        sentence: the finding and what was done. It stands in results that are passed on. Therefore it names slices
            by their number, and it contains neither file names nor texts of a DICOM header.
    """

    code: str
    sentence: str


def refusal(where: Path | str, code: str, finding: str, remedy: str = "") -> InputError:
    """The error of an input that is not read: where, what is wrong, and what to do.

    Args:
        where: the file, folder or server.
        code: key of :data:`REFUSALS`.
        finding: what is wrong, with the values that show it.
        remedy: what the user can do; the code's own remedy if empty.

    Returns:
        The error, to be raised.

    Example:
        >>> print(refusal("scan.nii", "damaged", "is truncated"))
        scan.nii: is truncated; copy or export it again
    """
    return InputError(f"{where}: {finding}; {remedy or CODES[code].remedy}", code=code)

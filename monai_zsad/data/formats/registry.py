"""The table of formats: which files are scans, how each is read and checked, and which known formats are not read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.formats.image import SLICE_SUFFIXES, check_image, read_image
from monai_zsad.data.formats.itk import check_itk, itk_geometry, read_itk
from monai_zsad.data.formats.neuro import MGH, MINC, PAR_REC
from monai_zsad.data.formats.nifti import NIFTI, NIFTI_PAIR, stores_nifti
from monai_zsad.data.formats.packed import (
    PACKED_SUFFIXES,
    UNPACK_ERRORS,
    file_beside,
    packing_of,
    unpacked_head,
    without_packing,
)
from monai_zsad.data.formats.volumes import Kind
from monai_zsad.data.scan import ReadOptions, Scan

__all__ = [
    "FILE_FORMATS",
    "FORMATS",
    "IMAGE_SUFFIXES",
    "UNREAD_SUFFIXES",
    "Format",
    "format_of",
    "is_volume",
    "scan_file",
    "why_unread",
]

_HEAD_BYTES = 1024
_DICOM = "DICOM"
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_PAR_MARK = b"# === DATA DESCRIPTION FILE"
_META_IMAGE = re.compile(rb"^\s*(objecttype|ndims)\s*=", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Format:
    """A format of scans beside DICOM.

    Attributes:
        name: for messages.
        suffixes: endings (lower case) of its files that are not packed.
        reader: reads a file as a scan.
        checker: makes all checks of reading that need no voxels.
        geometry: shape in voxels and spacing from the header; None where the format has none.
        packed: whether its files may also be packed as a whole.
        kind: how nibabel reads it, if it does.
    """

    name: str
    suffixes: tuple[str, ...]
    reader: Callable[[Path, ReadOptions], Scan]
    checker: Callable[[Path, ReadOptions], list[Repair]]
    geometry: Callable[[Path], tuple[tuple[int, ...], tuple[float, ...]]] | None = None
    packed: bool = False
    kind: Kind | None = None

    def read(self, path: Path, options: ReadOptions) -> Scan:
        """Read and check a file.

        Args:
            path: of the file.
            options: see :class:`~monai_zsad.data.ScanReader`.

        Raises:
            InputError: if it cannot be read, or not without guessing.
        """
        scan = self.reader(path, options)
        scan.repairs += self._compare_name(path)
        return scan

    def check(self, path: Path, options: ReadOptions) -> list[Repair]:
        """All checks of :meth:`read` that need no voxels.

        Args:
            path: of the file.
            options: see :class:`~monai_zsad.data.ScanReader`.

        Returns:
            The warnings.

        Raises:
            InputError: the one that :meth:`read` raises.
        """
        return self.checker(path, options) + self._compare_name(path)

    def _compare_name(self, path: Path) -> list[Repair]:
        packing, name = packing_of(path), path.name.lower()
        # FreeSurfer's ending for a packed file has no second part.
        expected = [".mgz"] if packing == ".gz" and ".mgz" in self.suffixes else []
        expected += [f"{suffix}{packing}" for suffix in self.suffixes if packing or suffix != ".mgz"]
        if name.endswith(tuple(expected)):
            return []
        how = f"packed as {packing[1:]}" if packing else "not packed"
        return [Repair("misnamed", f"its name does not say what it is ({self.name}, {how}); it was read as that")]

    @property
    def all_suffixes(self) -> tuple[str, ...]:
        """Endings (lower case) of its files, also of those that are packed."""
        packings = ("", *PACKED_SUFFIXES) if self.packed else ("",)
        return tuple(f"{suffix}{packing}" for suffix in self.suffixes for packing in packings)


def _by_nibabel(suffixes: tuple[str, ...], kind: Kind) -> Format:
    return Format(kind.name, suffixes, kind.read, kind.check, kind.geometry, packed=True, kind=kind)


_NIFTI = _by_nibabel((".nii",), NIFTI)
_PAIR = _by_nibabel((".hdr", ".img"), NIFTI_PAIR)
_MGH = _by_nibabel((".mgh", ".mgz"), MGH)
_MINC = _by_nibabel((".mnc",), MINC)
_PAR_REC = _by_nibabel((".par", ".rec"), PAR_REC)
_NRRD = Format("NRRD", (".nrrd", ".nhdr"), read_itk, check_itk, itk_geometry)
_META = Format("MetaImage", (".mha", ".mhd"), read_itk, check_itk, itk_geometry)
_IMAGE = Format("2D image", SLICE_SUFFIXES, read_image, check_image)

FORMATS = (_NIFTI, _PAIR, _MGH, _MINC, _PAR_REC, _NRRD, _META, _IMAGE)
"""Every format that is read, beside DICOM, which is recognised by its content."""

IMAGE_SUFFIXES = tuple(suffix for one in FORMATS if one is not _IMAGE for suffix in one.all_suffixes)
"""Endings (lower case) of the volume files that are read as scans; DICOM is recognised by its content instead."""

FILE_FORMATS = ", ".join(f"{one.name} ({', '.join(one.suffixes)})" for one in FORMATS)
"""The formats and the endings of their files, for messages."""

_DATA_OF = {".img": ".hdr", ".rec": ".par"}
"""Endings of files that hold only voxels, each with the ending of its header, which names the scan."""

_CONVERT = "convert it to NIfTI"
UNREAD_SUFFIXES: dict[str, str] = {
    **dict.fromkeys((".mif", ".mih"), f"{_CONVERT} with mrconvert of MRtrix3"),
    **dict.fromkeys((".head", ".brik"), f"{_CONVERT} with 3dAFNItoNIFTI of AFNI"),
    **dict.fromkeys((".gipl", ".nia", ".v", ".fdf", ".nim"), _CONVERT),
    **dict.fromkeys((".vti", ".vtk"), "write it as NRRD or MetaImage"),
    **dict.fromkeys((".h5", ".hdf5", ".mrd"), "write its images as DICOM or NIfTI"),
    **dict.fromkeys((".tif", ".tiff", ".lsm"), "write a stack as NRRD with its voxel size, or a 2D image as PNG"),
    **dict.fromkeys((".bmp", ".gif", ".webp", ".jp2"), "write it as PNG"),
    **dict.fromkeys((".raw", ".zraw"), "give the header (.mhd or .nhdr) that describes it"),
}
"""Endings (lower case) of files that people take for scans and that are not read, each with the remedy."""


def format_of(path: Path) -> Format | None:
    """The format of a file, by its content, and by its name where the content does not tell.

    Args:
        path: of a file that exists.

    Returns:
        The format, or None for DICOM and for unknown files.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "scan.mha"
        >>> file.write_bytes(b"NRRD0004")
        8
        >>> format_of(file).name
        'NRRD'
    """
    by_name = _format_named(path)
    by_content = _content(path)
    if by_content == _DICOM:
        fits = by_name is None or by_name in (_PAIR, _PAR_REC)
        return None if fits and not packing_of(path) else _DICOM_NAMED_OTHERWISE
    # Any file may begin like an Analyze header.
    if isinstance(by_content, Format) and by_name is not _IMAGE and (by_content is not _PAIR or by_name is _PAIR):
        return by_content
    return by_name


def is_volume(path: Path) -> bool:
    """Whether a file has the name of a volume, or is one file of a pair; not whether it can be read.

    Args:
        path: of the file.
    """
    name = without_packing(path.name).lower()
    if not path.name.lower().endswith(IMAGE_SUFFIXES):
        return False
    if name.endswith((".hdr", ".par")):
        return isinstance(_content(path), Format)
    if not name.endswith(tuple(_DATA_OF)):
        return True
    content = _content(path)
    return content != _DICOM and (isinstance(content, Format) or scan_file(path) != path)


def scan_file(path: Path) -> Path:
    """The file that names the scan: the header for the voxels of a pair, otherwise the file itself.

    Args:
        path: of a volume file.

    Example:
        >>> scan_file(Path("a.nii")).name
        'a.nii'
    """
    suffix = Path(without_packing(path.name)).suffix.lower()
    if suffix not in _DATA_OF or isinstance(_content(path), Format):
        return path
    header = file_beside(path, _DATA_OF[suffix])
    return path if header is None else header


def why_unread(path: Path) -> str:
    """What to do with a file that people take for a scan and that is not read.

    Args:
        path: of a file that is not a volume (:func:`is_volume`), not a 2D image and not DICOM.

    Returns:
        The remedy; empty for a file that is not a scan.
    """
    name = without_packing(path.name).lower()
    if name.endswith(tuple(_DATA_OF)):
        return f"put its header ({_DATA_OF[Path(name).suffix]}) into the same folder"
    if name.endswith(".hdr"):
        return "it is the header of another program: convert the scan to NIfTI"
    if name != path.name.lower() and name.endswith((*_NRRD.suffixes, *_META.suffixes, *_DICOM_SUFFIXES)):
        return "unpack it"
    if name.endswith((".raw", ".zraw")) and any(any(path.parent.glob(f"*{end}")) for end in (".mhd", ".nhdr")):
        return ""
    return UNREAD_SUFFIXES.get(Path(name).suffix, "")


def _format_named(path: Path) -> Format | None:
    name = path.name.lower()
    return next((one for one in FORMATS if name.endswith(one.all_suffixes)), None)


def _content(path: Path) -> Format | str:
    """What the first bytes of a file say, unpacked if it is packed; empty if they say nothing."""
    try:
        head = unpacked_head(path, _HEAD_BYTES)
    except UNPACK_ERRORS:
        return ""
    if head[128:132] == b"DICM":
        return _DICOM
    if kind := stores_nifti(head):
        return _NIFTI if kind == "single" else _PAIR
    if head.startswith(_PAR_MARK):
        return _PAR_REC
    if packing_of(path):
        return ""
    if head.startswith(b"NRRD"):
        return _NRRD
    return _META if _META_IMAGE.search(head) else ""


def _refuse_dicom(path: Path, options: ReadOptions) -> Scan:  # noqa: ARG001
    remedy = "unpack it" if packing_of(path) else "rename it to .dcm"
    raise refusal(path, "damaged", "is DICOM, but it is packed or has the name of another format", remedy)


def _refuse_dicom_header(path: Path, options: ReadOptions) -> list[Repair]:
    return _refuse_dicom(path, options).repairs


_DICOM_NAMED_OTHERWISE = Format("DICOM", (".dcm",), _refuse_dicom, _refuse_dicom_header)

"""Whether a scan would be read, from its headers alone: by the checks that reading itself makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.dicom import check_dicom
from monai_zsad.data.formats.registry import Format, format_of, why_unread
from monai_zsad.data.scan import ReadOptions

__all__ = ["check_scan", "scan_format"]


def scan_format(files: Sequence[Path]) -> Format | None:
    """The format of a scan, which reads and checks it; None for DICOM.

    Args:
        files: one file, or the files of one DICOM series.

    Raises:
        InputError: if a file does not exist, is a folder, or has a known format that is not read.
    """
    for file in files:
        if not file.exists():
            raise refusal(file, "missing-file", "does not exist")
        if file.is_dir():
            raise refusal(file, "is-folder", "is a folder", "list its scans with monai_zsad.data.find_scans first")
    if len(files) != 1:
        return None
    known = format_of(files[0])
    if known is None and (remedy := why_unread(files[0])) and not _has_mark(files[0]):
        raise refusal(files[0], "unread-format", "has a format that is not read", remedy)
    return known


def _has_mark(file: Path) -> bool:
    from pydicom.misc import is_dicom

    return is_dicom(file)


def check_scan(files: Sequence[Path], options: ReadOptions | None = None) -> list[Repair]:
    """Make all checks of :class:`~monai_zsad.data.ScanReader` that need no voxels.

    What only the voxels show is not found: a constant or non-finite scan, and pixels that cannot be decoded.

    Args:
        files: one file, or the files of one DICOM series.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        Warnings that the reader will give.

    Raises:
        InputError: the one that the reader would raise.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "scan.nii"
        >>> file.touch()
        >>> check_scan([file])  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        monai_zsad.errors.InputError: ...scan.nii: is empty; copy or export it again
    """
    options = options or ReadOptions()
    known = scan_format(files)
    return check_dicom(files, options) if known is None else known.check(files[0], options)

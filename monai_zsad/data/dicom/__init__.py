"""DICOM: opening and checking files, slice positions, resampling, grouping of files into series."""

from __future__ import annotations

from monai_zsad.data.dicom.files import headers_kept, limit_deflated
from monai_zsad.data.dicom.series import Header, Series, closest, group_series, names_part, why_not_a_scan
from monai_zsad.data.dicom.volume import check_dicom, read_dicom

__all__ = [
    "Header",
    "Series",
    "check_dicom",
    "closest",
    "group_series",
    "headers_kept",
    "limit_deflated",
    "names_part",
    "read_dicom",
    "why_not_a_scan",
]

"""Finding and reading scans."""

from __future__ import annotations

from monai_zsad.data.dataset import ScreeningDataset
from monai_zsad.data.dicom import read_dicom
from monai_zsad.data.failures import explain, find_user_error
from monai_zsad.data.phantom import Phantom, phantom_head, write_sample_scan
from monai_zsad.data.reader import Scan, ScanReader
from monai_zsad.data.studies import IMAGE_SUFFIXES, find_scans

__all__ = [
    "IMAGE_SUFFIXES",
    "Phantom",
    "Scan",
    "ScanReader",
    "ScreeningDataset",
    "explain",
    "find_scans",
    "find_user_error",
    "phantom_head",
    "read_dicom",
    "write_sample_scan",
]

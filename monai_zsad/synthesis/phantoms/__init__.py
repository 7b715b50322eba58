"""Synthetic scans with known tissues and lesions: heads and abdomens, as arrays and as files."""

from __future__ import annotations

from monai_zsad.synthesis.phantoms.abdomen import phantom_abdomen
from monai_zsad.synthesis.phantoms.files import write_phantom, write_sample_scan
from monai_zsad.synthesis.phantoms.head import phantom_head
from monai_zsad.synthesis.phantoms.model import Phantom, Tissue
from monai_zsad.synthesis.phantoms.series import write_dicom_series

__all__ = [
    "Phantom",
    "Tissue",
    "phantom_abdomen",
    "phantom_head",
    "write_dicom_series",
    "write_phantom",
    "write_sample_scan",
]

"""File formats beside DICOM. Each file is checked before it is read; the table of formats is in ``registry.py``."""

from __future__ import annotations

from monai_zsad.data.formats.image import SLICE_SUFFIXES, check_image, one_slice, read_image
from monai_zsad.data.formats.itk import ITK_SUFFIXES, check_itk, itk_geometry, read_itk
from monai_zsad.data.formats.nifti import check_nifti, nifti_geometry, read_nifti
from monai_zsad.data.formats.registry import (
    FILE_FORMATS,
    FORMATS,
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    Format,
    format_of,
    is_volume,
    scan_file,
    why_unread,
)

__all__ = [
    "FILE_FORMATS",
    "FORMATS",
    "IMAGE_SUFFIXES",
    "ITK_SUFFIXES",
    "NIFTI_SUFFIXES",
    "SLICE_SUFFIXES",
    "UNREAD_SUFFIXES",
    "Format",
    "check_image",
    "check_itk",
    "check_nifti",
    "format_of",
    "is_volume",
    "itk_geometry",
    "nifti_geometry",
    "one_slice",
    "read_image",
    "read_itk",
    "read_nifti",
    "scan_file",
    "why_unread",
]

NIFTI_SUFFIXES = next(one.all_suffixes for one in FORMATS if one.name == "NIfTI")
"""Endings (lower case) of NIfTI files that are complete in themselves."""

"""File formats beside DICOM: NIfTI, NRRD and MetaImage, and 2D images. Each file is checked before it is read."""

from __future__ import annotations

from monai_zsad.data.formats.image import SLICE_SUFFIXES, one_slice, read_image
from monai_zsad.data.formats.itk import ITK_SUFFIXES, itk_geometry, read_itk
from monai_zsad.data.formats.nifti import NIFTI_SUFFIXES, nifti_geometry, read_nifti

__all__ = [
    "IMAGE_SUFFIXES",
    "ITK_SUFFIXES",
    "NIFTI_SUFFIXES",
    "SLICE_SUFFIXES",
    "itk_geometry",
    "nifti_geometry",
    "one_slice",
    "read_image",
    "read_itk",
    "read_nifti",
]

IMAGE_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES)
"""Endings (lower case) of the volume files that are read as scans; DICOM is recognised by its content instead."""

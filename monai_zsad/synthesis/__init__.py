"""Synthetic scans and lesions with known masks, and slices with them for validation."""

from __future__ import annotations

from monai_zsad.synthesis.anatomy import (
    Anatomy,
    PrepareAnatomy,
    PrepareAnatomyD,
    PrepareAnatomyd,
    PrepareAnatomyDict,
    anatomies,
)
from monai_zsad.synthesis.lesions import (
    ATTRIBUTES,
    KINDS,
    Lesion,
    LesionedImage,
    LesionedScan,
    LesionSettings,
    RandLesion,
    RandLesionD,
    RandLesiond,
    RandLesionDict,
    paint_lesions,
)
from monai_zsad.synthesis.phantoms import (
    Phantom,
    Tissue,
    phantom_abdomen,
    phantom_head,
    write_dicom_series,
    write_phantom,
    write_sample_scan,
)
from monai_zsad.synthesis.slabs import SlabSettings
from monai_zsad.synthesis.validation_slices import ValidationSlices

__all__ = [
    "ATTRIBUTES",
    "Anatomy",
    "KINDS",
    "Lesion",
    "LesionSettings",
    "LesionedImage",
    "LesionedScan",
    "Phantom",
    "PrepareAnatomy",
    "PrepareAnatomyD",
    "PrepareAnatomyDict",
    "PrepareAnatomyd",
    "RandLesion",
    "RandLesionD",
    "RandLesionDict",
    "RandLesiond",
    "SlabSettings",
    "Tissue",
    "ValidationSlices",
    "anatomies",
    "paint_lesions",
    "phantom_abdomen",
    "phantom_head",
    "write_dicom_series",
    "write_phantom",
    "write_sample_scan",
]

"""Synthetic lesions: settings and description, shapes, painting, and MONAI transforms."""

from __future__ import annotations

from monai_zsad.synthesis.lesions.model import ATTRIBUTES, KINDS, Lesion, LesionedImage, LesionSettings
from monai_zsad.synthesis.lesions.painting import paint_lesions
from monai_zsad.synthesis.lesions.transforms import (
    LesionedScan,
    RandLesion,
    RandLesionD,
    RandLesiond,
    RandLesionDict,
)

__all__ = [
    "ATTRIBUTES",
    "KINDS",
    "Lesion",
    "LesionSettings",
    "LesionedImage",
    "LesionedScan",
    "RandLesion",
    "RandLesionD",
    "RandLesionDict",
    "RandLesiond",
    "paint_lesions",
]

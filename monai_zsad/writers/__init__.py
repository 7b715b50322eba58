"""Writing what was found."""

from __future__ import annotations

from monai_zsad.writers.comparison import comparison_figure, save_comparison_figure, suspicious_slices
from monai_zsad.writers.files import CaseLayout, atomic_path
from monai_zsad.writers.nifti import AtomicNibabelWriter, SaveCase, SaveCaseD, SaveCased, SaveCaseDict
from monai_zsad.writers.preview import SavePreviewD, SavePreviewd, SavePreviewDict, most_suspicious, save_preview
from monai_zsad.writers.scores import (
    SCHEMA_VERSION,
    SEEDED_WARNING,
    SaveScoresD,
    SaveScoresd,
    SaveScoresDict,
    is_seeded,
    scores,
)

__all__ = [
    "AtomicNibabelWriter",
    "CaseLayout",
    "SCHEMA_VERSION",
    "SEEDED_WARNING",
    "SaveCase",
    "SaveCaseD",
    "SaveCaseDict",
    "SaveCased",
    "SavePreviewD",
    "SavePreviewDict",
    "SavePreviewd",
    "SaveScoresD",
    "SaveScoresDict",
    "SaveScoresd",
    "atomic_path",
    "comparison_figure",
    "is_seeded",
    "most_suspicious",
    "save_comparison_figure",
    "save_preview",
    "scores",
    "suspicious_slices",
]

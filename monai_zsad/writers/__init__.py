"""Writers of results: maps, label maps, figures, reports, DICOM objects, findings, scores and manifests."""

from __future__ import annotations

from monai_zsad.writers.base import CaseWriter, RunSettings
from monai_zsad.writers.dicom import SaveDicom, SaveDicomD, SaveDicomd, SaveDicomDict
from monai_zsad.writers.facts import SEEDED_WARNING, is_seeded, without_paths
from monai_zsad.writers.figures.comparison import comparison_figure, save_comparison_figure, suspicious_slices
from monai_zsad.writers.figures.preview import (
    SavePreviewD,
    SavePreviewd,
    SavePreviewDict,
    most_suspicious,
    save_preview,
)
from monai_zsad.writers.files import CaseLayout, atomic_path, clean_temporaries
from monai_zsad.writers.labels import SaveLabelsD, SaveLabelsd, SaveLabelsDict, save_segmentation
from monai_zsad.writers.nifti import AtomicNibabelWriter, SaveCase, SaveCaseD, SaveCased, SaveCaseDict
from monai_zsad.writers.pages.index import write_index
from monai_zsad.writers.pages.report import SaveReportD, SaveReportd, SaveReportDict, report
from monai_zsad.writers.records.findings import (
    FINDINGS_COLUMNS,
    FINDINGS_SCHEMA_VERSION,
    SaveFindingsD,
    SaveFindingsd,
    SaveFindingsDict,
    findings,
    findings_rows,
    findings_schema,
)
from monai_zsad.writers.records.fingerprint import Fingerprint, content_hash, fingerprint
from monai_zsad.writers.records.manifest import (
    SaveManifestD,
    SaveManifestd,
    SaveManifestDict,
    is_complete,
    verify_manifest,
)
from monai_zsad.writers.records.scores import (
    SCHEMA_VERSION,
    SaveScoresD,
    SaveScoresd,
    SaveScoresDict,
    scores,
)
from monai_zsad.writers.results import SaveResultsD, SaveResultsd, SaveResultsDict

__all__ = [
    "AtomicNibabelWriter",
    "CaseLayout",
    "CaseWriter",
    "FINDINGS_COLUMNS",
    "FINDINGS_SCHEMA_VERSION",
    "Fingerprint",
    "RunSettings",
    "SCHEMA_VERSION",
    "SEEDED_WARNING",
    "SaveCase",
    "SaveCaseD",
    "SaveCaseDict",
    "SaveCased",
    "SaveDicom",
    "SaveDicomD",
    "SaveDicomDict",
    "SaveDicomd",
    "SaveFindingsD",
    "SaveFindingsDict",
    "SaveFindingsd",
    "SaveLabelsD",
    "SaveLabelsDict",
    "SaveLabelsd",
    "SaveManifestD",
    "SaveManifestDict",
    "SaveManifestd",
    "SavePreviewD",
    "SavePreviewDict",
    "SavePreviewd",
    "SaveReportD",
    "SaveReportDict",
    "SaveReportd",
    "SaveResultsD",
    "SaveResultsDict",
    "SaveResultsd",
    "SaveScoresD",
    "SaveScoresDict",
    "SaveScoresd",
    "atomic_path",
    "clean_temporaries",
    "comparison_figure",
    "content_hash",
    "findings",
    "findings_rows",
    "findings_schema",
    "fingerprint",
    "is_complete",
    "is_seeded",
    "most_suspicious",
    "report",
    "save_comparison_figure",
    "save_preview",
    "save_segmentation",
    "scores",
    "suspicious_slices",
    "verify_manifest",
    "write_index",
    "without_paths",
]

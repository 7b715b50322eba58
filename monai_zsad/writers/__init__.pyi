from . import base, dicom, facts, figures, files, labels, nifti, pages, records, results, run_tables, status
from .base import CaseLayout, CaseWriter, RunSettings
from .dicom import SaveDicom, SaveDicomD, SaveDicomd, SaveDicomDict
from .facts import RESULT_WARNINGS, SEEDED_WARNING, ResultWarning, is_seeded, without_paths
from .figures.comparison import comparison_figure, save_comparison_figure, suspicious_slices
from .figures.preview import (
    SavePreviewD,
    SavePreviewd,
    SavePreviewDict,
    most_suspicious,
    save_preview,
)
from .files import atomic_path, clean_temporaries
from .labels import SaveLabelsD, SaveLabelsd, SaveLabelsDict, save_segmentation
from .nifti import AtomicNibabelWriter, SaveCase, SaveCaseD, SaveCased, SaveCaseDict
from .pages.index import write_index
from .pages.report import SaveReportD, SaveReportd, SaveReportDict, report
from .records.findings import (
    FINDINGS_COLUMNS,
    FINDINGS_SCHEMA_VERSION,
    SaveFindingsD,
    SaveFindingsd,
    SaveFindingsDict,
    findings,
    findings_rows,
    findings_schema,
)
from .records.fingerprint import Fingerprint, content_hash, fingerprint
from .records.manifest import (
    SaveManifestD,
    SaveManifestd,
    SaveManifestDict,
    is_complete,
    verify_manifest,
)
from .records.scores import (
    SCHEMA_VERSION,
    SaveScoresD,
    SaveScoresd,
    SaveScoresDict,
    scores,
)
from .results import SaveResultsD, SaveResultsd, SaveResultsDict

__all__ = [
    "AtomicNibabelWriter",
    "CaseLayout",
    "CaseWriter",
    "FINDINGS_COLUMNS",
    "FINDINGS_SCHEMA_VERSION",
    "Fingerprint",
    "RESULT_WARNINGS",
    "ResultWarning",
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
    "base",
    "clean_temporaries",
    "comparison_figure",
    "content_hash",
    "dicom",
    "facts",
    "figures",
    "files",
    "findings",
    "findings_rows",
    "findings_schema",
    "fingerprint",
    "is_complete",
    "is_seeded",
    "labels",
    "most_suspicious",
    "nifti",
    "pages",
    "records",
    "report",
    "results",
    "run_tables",
    "save_comparison_figure",
    "save_preview",
    "save_segmentation",
    "scores",
    "status",
    "suspicious_slices",
    "verify_manifest",
    "without_paths",
    "write_index",
]

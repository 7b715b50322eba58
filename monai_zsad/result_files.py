"""Names of the files in a folder of results: those of each case, those of the run, and temporary ones.

A new writer adds its file to :data:`CASE_FILES`. Findings, manifest, clean-up and the search for scans then know it.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monai_zsad.errors import OutputError

__all__ = [
    "CASE_FILES",
    "INDEX_FILE",
    "INPUT_MARK",
    "RUN_FILES",
    "RUN_LOG",
    "STATUS_FOLDER",
    "STATUS_TABLES",
    "SUMMARY_FILE",
    "CaseFile",
    "case_files",
    "case_folder",
    "final_name",
    "has_results",
    "make_folder",
    "old_files",
    "temporary_name",
]


@dataclass(frozen=True)
class CaseFile:
    """A file in the folder of a case. Its name is the same for all cases.

    Attributes:
        postfix: what the file is.
        extension: with its dot.
        in_findings: whether ``findings.json`` names the file under ``files``.

    Example:
        >>> CaseFile("anomaly", ".nii.gz").name
        'anomaly.nii.gz'
    """

    postfix: str
    extension: str
    in_findings: bool = True

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.postfix + self.extension


CASE_FILES: Mapping[str, CaseFile] = {
    "anomaly_map": CaseFile("anomaly", ".nii.gz"),
    "candidates": CaseFile("candidates", ".nii.gz"),
    "segmentation": CaseFile("candidates", ".seg.nrrd"),
    "table": CaseFile("findings", ".csv"),
    "preview": CaseFile("preview", ".png"),
    "dicom_segmentation": CaseFile("seg", ".dcm"),
    "dicom_parametric_map": CaseFile("pm", ".dcm"),
    "dicom_report": CaseFile("sr", ".dcm"),
    "dicom_capture": CaseFile("sc", ".dcm", in_findings=False),
    "report": CaseFile("report", ".html"),
    "findings": CaseFile("findings", ".json", in_findings=False),
    "scores": CaseFile("scores", ".json", in_findings=False),
    "manifest": CaseFile("manifest", ".json", in_findings=False),
}
"""Files of a case by what they hold, in the order in which ``findings.json`` names them."""

SUMMARY_FILE = "summary.json"
"""Status and volume score of each case of a run."""

INDEX_FILE = "index.html"
"""Page with links to the results of all cases of a run."""

STATUS_TABLES = ("status.csv", "status.parquet")
"""Tables of all cases of a run; the second one where pyarrow is installed."""

RUN_LOG = "run.log"
"""The log of all runs in a folder. Each run adds its lines at the end."""

RUN_FILES = (SUMMARY_FILE, INDEX_FILE, *STATUS_TABLES, RUN_LOG)
"""Files of a run, beside the folders of its cases."""

STATUS_FOLDER = ".status"
"""Folder in the output folder with the status of each case, and with the claims while a run goes on."""

INPUT_MARK = "input~"
"""Begins the id of an input that is not a case, in the tables of a run. No case id has this character."""

_TEMPORARY = re.compile(r"\.zsad-[0-9a-f]{8}\.(?P<name>.+)", re.DOTALL)
_MANIFEST_SCHEMA = b"monai-zsad/manifest"


def case_folder(output_dir: str | os.PathLike[str], case: str) -> Path:
    """The folder of a case.

    Args:
        output_dir: folder of the run.
        case: id of the case.

    Returns:
        The path.

    Raises:
        OutputError: if the id cannot name a folder.

    Example:
        >>> case_folder("out", "anna").as_posix()
        'out/anna'
    """
    if case in ("", ".", "..") or Path(case).name != case:
        raise OutputError(f"case {case!r} cannot name a folder; use ids from monai_zsad.data.find_scans")
    return Path(output_dir) / case


def make_folder(folder: Path) -> None:
    """Make the folder of a run.

    Args:
        folder: it and the folders above it may be missing.

    Raises:
        OutputError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}); give another --output_dir") from error


def has_results(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds the complete results of a case: its manifest, which is written last, is there.

    Args:
        folder: the folder of the case.

    Returns:
        True if there is a manifest that begins as those of this package do, also under its old name (see
        :func:`old_files`). The rest of its content is not checked.
    """
    path = Path(folder)
    name = CASE_FILES["manifest"].name
    return any(_is_manifest(file) for file in (path / name, path / f"{path.name}_{name}"))


def _is_manifest(file: Path) -> bool:
    # Other programs write files named manifest.json, too.
    try:
        with file.open("rb") as stream:
            return _MANIFEST_SCHEMA in stream.read(100)
    except OSError:
        return False


def case_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The results of a case that are in its folder, also those with old names.

    Args:
        folder: the folder of the case, which may not exist.

    Returns:
        The paths of all files with a name from :data:`CASE_FILES`, then those of :func:`old_files`.
    """
    path = Path(folder)
    files = (path / file.name for file in CASE_FILES.values())
    return [file for file in files if file.is_file()] + old_files(path)


def old_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The results of a case under the names of early versions, which began with the case: ``anna_findings.json``.

    Args:
        folder: the folder of the case, which may not exist.

    Returns:
        The paths.
    """
    path = Path(folder)
    # The extension of a map may be another one.
    begins = tuple(f"{path.name}_{file.postfix}." for file in CASE_FILES.values())
    return sorted(file for file in path.glob("*") if file.name.startswith(begins) and file.is_file())


def temporary_name(name: str) -> str:
    """A new name under which a file is written until it is complete; it is hidden and keeps the extension.

    Args:
        name: the final name of the file.

    Returns:
        The temporary name.

    Example:
        >>> final_name(temporary_name("report.html"))
        'report.html'
    """
    return f".zsad-{uuid.uuid4().hex[:8]}.{name}"


def final_name(name: str) -> str | None:
    """The final name of a file with a temporary name.

    Args:
        name: of any file.

    Returns:
        The final name; None if ``name`` is not a temporary name.

    Example:
        >>> final_name(".zsad-0123abcd.summary.json"), final_name("summary.json")
        ('summary.json', None)
    """
    match = _TEMPORARY.fullmatch(name)
    return match["name"] if match else None

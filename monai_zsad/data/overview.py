"""What lies at a path, for people to look at: every series with its description, geometry, and why it is left out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monai_zsad.data.archives import extract_archive, is_archive
from monai_zsad.data.itk_files import itk_geometry
from monai_zsad.data.nifti import nifti_geometry
from monai_zsad.data.picture_scans import PICTURE_SCAN_SUFFIXES
from monai_zsad.data.scan import READ_ERRORS
from monai_zsad.data.series import Series, group_series, why_not_a_scan
from monai_zsad.data.studies import IMAGE_SUFFIXES, list_files
from monai_zsad.errors import InputError

__all__ = ["FoundSeries", "find_studies"]


@dataclass(frozen=True)
class FoundSeries:
    """One series, volume file or picture, as its headers describe it; its voxels were not read.

    Attributes:
        path: the file, or the folder of the series.
        files: how many files it has.
        uid: SeriesInstanceUID, or an empty string.
        number: of the series, or None.
        modality: DICOM's code, or an empty string.
        body_part: DICOM's BodyPartExamined, or an empty string.
        description: DICOM's SeriesDescription: free text, which may name a patient; for the screen only.
        shape: (X, Y, Z) in voxels, empty where the header does not tell.
        spacing_mm: (X, Y, Z), empty where the header does not tell.
        skipped: why :func:`find_scans` leaves it out, or an empty string.
        warnings: what was set aside beside it.
    """

    path: Path
    files: int = 1
    uid: str = ""
    number: int | None = None
    modality: str = ""
    body_part: str = ""
    description: str = ""
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    skipped: str = ""
    warnings: tuple[str, ...] = ()


def find_studies(path: str | os.PathLike[str]) -> list[FoundSeries]:
    """Describe every series, volume file and picture at a path, those that are left out too.

    :func:`find_scans` lists what is screened, without texts that may name a patient; this is for choosing.

    Args:
        path: file, folder, or zip archive.

    Returns:
        Descriptions in the order of their paths.

    Raises:
        InputError: if the path does not exist, or is an archive that cannot be unpacked.

    Example:
        >>> import tempfile, nibabel
        >>> folder = Path(tempfile.mkdtemp())
        >>> nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), "i2"), np.diag([1, 1, 3, 1])), folder / "scan.nii")
        >>> find_studies(folder)[0].shape, find_studies(folder)[0].spacing_mm
        ((3, 4, 5), (1.0, 1.0, 3.0))
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise InputError(f"{root} does not exist: give a file, folder or zip archive", code="missing-file")
    if root.is_file() and is_archive(root):
        root = extract_archive(root)
    files = list_files(root)
    volumes = [file for file in files if file.name.lower().endswith(IMAGE_SUFFIXES)]
    pictures = [file for file in files if file.name.lower().endswith(PICTURE_SCAN_SUFFIXES)]
    kept, skipped = group_series(sorted(set(files) - set(volumes) - set(pictures)))
    beside = "picture beside scans" if volumes or kept else ""
    found = [_describe_volume(file) for file in volumes]
    found += [FoundSeries(file, skipped=beside) for file in pictures]
    found += [_describe_series(series) for series in (*kept, *skipped)]
    return sorted(found, key=lambda one: (str(one.path), one.number or 0))


def _describe_volume(file: Path) -> FoundSeries:
    nifti = file.name.lower().endswith((".nii", ".nii.gz"))
    try:
        shape, spacing = (nifti_geometry if nifti else itk_geometry)(file)
    except READ_ERRORS as error:
        return FoundSeries(file, skipped=f"its header cannot be read ({type(error).__name__})")
    return FoundSeries(file, shape=shape, spacing_mm=spacing)


def _describe_series(series: Series) -> FoundSeries:
    first = series.header
    frames = sum(1 if header is None else header.frames for _, header in series.members)
    return FoundSeries(
        path=series.folder if len(series.files) > 1 else series.files[0],
        files=len(series.files),
        uid=first.uid,
        number=first.number,
        modality=first.modality,
        body_part=first.body_part,
        description=first.description,
        shape=(first.columns, first.rows, frames) if first.rows and first.columns else (),
        spacing_mm=_spacing(series),
        skipped=why_not_a_scan(first),
        warnings=tuple(repair.sentence for repair in series.repairs),
    )


def _spacing(series: Series) -> tuple[float, ...]:
    headers = [header for _, header in series.members if header is not None]
    first = series.header
    if len(first.spacing) != 2 or len(first.orientation) != 6 or any(len(one.position) != 3 for one in headers):
        return ()
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    along = np.sort(np.asarray([one.position for one in headers]) @ normal)
    step: Sequence[float] = [round(float(np.median(np.diff(along))), 4)] if len(along) > 1 else []
    return (first.spacing[1], first.spacing[0], *step)

"""Overview of a path for the user: every series with its geometry, and why it is left out or would be refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from monai_zsad.data.checks import MASK_WARNING
from monai_zsad.data.codes import CODES, Repair
from monai_zsad.data.dicom import Header, Series, closest, headers_kept
from monai_zsad.data.discovery.archives import extract_archive, is_archive
from monai_zsad.data.discovery.contents import Contents, look_into
from monai_zsad.data.discovery.dicomweb import list_series
from monai_zsad.data.discovery.dicomweb_query import is_query
from monai_zsad.data.discovery.left_out import LeftOut
from monai_zsad.data.discovery.scan_lists import LIST_SUFFIXES, read_scan_list
from monai_zsad.data.discovery.studies import require_path
from monai_zsad.data.formats.registry import format_of
from monai_zsad.data.scan import READ_ERRORS, ReadOptions
from monai_zsad.data.verdict import check_scan
from monai_zsad.errors import InputError

__all__ = ["FoundSeries", "find_studies"]


@dataclass(frozen=True)
class FoundSeries:
    """One series, volume file or 2D image, as its headers describe it; its voxels were not read.

    Attributes:
        path: the file, or the folder of the series; in an archive, the path of the archive and the path inside it; on
            a server, ``studies/UID/series/UID``.
        files: how many files it has.
        uid: SeriesInstanceUID, or an empty string.
        number: of the series, or None.
        modality: DICOM's code, or an empty string.
        body_part: DICOM's BodyPartExamined, or an empty string.
        description: DICOM's SeriesDescription: free text that may name a patient; only to be shown, not stored.
        shape: (X, Y, Z) in voxels, empty if the header does not state it.
        spacing_mm: (X, Y, Z), empty if the header does not state it.
        skipped: why :func:`find_scans` leaves it out, or an empty string.
        refused: the finding and the remedy of an input that people take for a scan and that is not read, or an empty
            string. Only headers were read, see :func:`~monai_zsad.data.check_scan`.
        code: of the reason why it is left out or refused, a key of :data:`monai_zsad.data.CODES`; or an empty string.
        warnings: files that were left out beside it, and other findings.
        warning_codes: one per warning, keys of :data:`monai_zsad.data.REPAIRS`.
        study: StudyInstanceUID, or an empty string.
        plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``, the anatomical plane nearest to the slices; empty if
            the header does not state it.
        part: number of the volume, from 1, if the series holds several volumes or 2D images; otherwise 0.
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
    study: str = ""
    plane: str = ""
    warning_codes: tuple[str, ...] = ()
    part: int = 0
    refused: str = ""
    code: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether it can be screened, as far as its headers tell."""
        return not (self.skipped or self.refused)


def find_studies(
    path: str | os.PathLike[str], series: str | int | None = None, options: ReadOptions | None = None
) -> list[FoundSeries]:
    """Describe every series, volume file and 2D image at a path, also those that are left out.

    This is for choosing; :func:`find_scans` lists the scans that are screened, without texts that may name a patient.
    For a DICOMweb query, only the list of the server is read, and no image is retrieved.

    Args:
        path: file, folder, zip archive, CSV or JSON list, or DICOMweb query, as for :func:`find_scans`.
        series: choice of DICOM series, by SeriesInstanceUID, number, modality, or part of the description, in this
            order, and of one of its volumes, the second by ``4:2``; everything else is marked as left out.
        options: of reading, for the verdict; None for the default ones.

    Returns:
        Descriptions in the order of their paths.

    Raises:
        InputError: if the path does not exist, does not hold the chosen series, or is an archive, a list or a query
            that cannot be used.

    Example:
        >>> import tempfile, nibabel
        >>> folder = Path(tempfile.mkdtemp())
        >>> nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), "i2"), np.diag([1, 1, 3, 1])), folder / "scan.nii")
        >>> find_studies(folder)[0].shape, find_studies(folder)[0].spacing_mm
        ((3, 4, 5), (1.0, 1.0, 3.0))
    """
    with headers_kept():
        found = _on_server(str(path)) if is_query(path) else _found(path, options or ReadOptions())
    if series is None:
        return found
    usable = [one for one in found if one.uid and not one.skipped]
    headers = [Header("", (), one.uid, one.number, one.modality, one.description, part=one.part) for one in usable]
    where = "the server" if is_query(path) else Path(path).expanduser()
    chosen = closest(headers, series, where, whole=is_query(path))
    wanted = [one for one, yes in zip(usable, chosen, strict=True) if yes]
    return [one if one.skipped or one in wanted else replace(one, skipped="not chosen") for one in found]


def _on_server(query: str) -> list[FoundSeries]:
    return [
        FoundSeries(
            path=Path("studies", one.header.study, "series", one.header.uid),
            files=one.instances,
            uid=one.header.uid,
            number=one.header.number,
            modality=one.header.modality,
            body_part=one.header.body_part,
            description=one.header.description,
            skipped=one.skipped,
            code="other-object" if one.skipped else "",
            study=one.header.study,
        )
        for one in list_series(query)
    ]


def _found(path: str | os.PathLike[str], options: ReadOptions) -> list[FoundSeries]:
    root = require_path(path)
    archive = root.is_file() and is_archive(root)
    if root.is_file() and root.name.lower().endswith(LIST_SUFFIXES):
        entries = [entry.images for entry in read_scan_list(root)]
        there = [[image for image in images if image.exists()] for images in entries]
        found = [one for images in there if images for one in _describe(_look_into_entry(images), options)]
        missing = [image for images in entries for image in images if not image.exists()]
        remedy = CODES["missing-file"].remedy
        found += [
            FoundSeries(image, skipped="does not exist", refused=f"does not exist; {remedy}", code="missing-file")
            for image in missing
        ]
    elif archive:
        folder = extract_archive(root)
        found = _describe(look_into(folder, archive=root), options)
    else:
        found = _describe(look_into(root), options)
    return sorted(found, key=lambda one: (str(one.path), one.number or 0))


def _look_into_entry(images: Sequence[Path]) -> Contents:
    """The entry of a list: a file, a folder, or the files of one series."""
    return look_into(images[0]) if len(images) == 1 else look_into(images[0].parent, images)


def _describe(contents: Contents, options: ReadOptions) -> list[FoundSeries]:
    found = [_judged(_describe_file(file, contents), [file], contents, options) for file in contents.volumes]
    found += [_judged(_describe_file(file, contents), [file], contents, options) for file in contents.images]
    found += [_judged(_describe_series(one, contents), one.files, contents, options) for one in contents.series]
    return found + [_describe_left_out(one, contents) for one in contents.left_out]


def _judged(described: FoundSeries, files: Sequence[Path], contents: Contents, options: ReadOptions) -> FoundSeries:
    """The description with the verdict of the reader."""
    try:
        repairs = check_scan(files, options)
    except InputError as error:
        return replace(described, refused=_shown_text(str(error), described.path, contents), code=error.code)
    sentences, codes = _noted(repairs)
    return replace(described, warnings=described.warnings + sentences, warning_codes=described.warning_codes + codes)


def _shown_text(text: str, path: Path, contents: Contents) -> str:
    """A message without the path under which it is listed, and with the paths of archives as the user knows them."""
    unpacked = dict(contents.unpacked) | ({contents.archive: contents.base} if contents.archive else {})
    for archive, folder in unpacked.items():
        text = text.replace(str(folder), str(archive))
    return text.removeprefix(f"{path}: ").removeprefix(f"{path}{os.sep}")


def _describe_left_out(one: LeftOut, contents: Contents) -> FoundSeries:
    described = FoundSeries(one.path)
    if isinstance(one.source, Series):
        described = _describe_series(one.source, contents)
    elif one.source is not None:
        described = _describe_file(one.source, contents)
    refused = one.sentence if one.is_refused else ""
    return replace(described, skipped=one.reason, refused=refused, code=one.code, warnings=(), warning_codes=())


def _describe_file(file: Path, contents: Contents) -> FoundSeries:
    sentences, codes = _noted([MASK_WARNING] if file in contents.masks else [])
    described = FoundSeries(contents.shown(file), warnings=sentences, warning_codes=codes)
    known = format_of(file) if file.is_file() else None
    if known is None or known.geometry is None:
        return described
    try:
        shape, spacing = known.geometry(file)
    except (InputError, *READ_ERRORS):
        # The verdict says what is wrong.
        return described
    return replace(described, shape=shape, spacing_mm=spacing)


def _describe_series(series: Series, contents: Contents) -> FoundSeries:
    first = series.header
    frames = sum(1 if header is None else header.frames for _, header in series.members)
    sentences, codes = _noted(series.repairs)
    return FoundSeries(
        path=contents.shown(series.folder if len(series.files) > 1 else series.files[0]),
        files=len(series.files),
        uid=first.uid,
        number=first.number,
        modality=first.modality,
        body_part=first.body_part,
        description=first.description,
        shape=(first.columns, first.rows, frames) if first.rows and first.columns else (),
        spacing_mm=_spacing(series),
        warnings=sentences,
        study=first.study,
        plane=_plane(first),
        warning_codes=codes,
        part=series.part,
    )


def _noted(repairs: Sequence[Repair]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(repair.sentence for repair in repairs), tuple(repair.code for repair in repairs)


def _spacing(series: Series) -> tuple[float, ...]:
    headers = [header for _, header in series.members if header is not None]
    first = series.header
    if len(first.spacing) != 2 or len(first.orientation) != 6 or any(len(one.position) != 3 for one in headers):
        return ()
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    along = np.sort(np.asarray([one.position for one in headers]) @ normal)
    step: Sequence[float] = [round(float(np.median(np.diff(along))), 4)] if len(along) > 1 else []
    return (first.spacing[1], first.spacing[0], *step)


def _plane(header: Header) -> str:
    if len(header.orientation) != 6 or not any(header.orientation):
        return ""
    normal = np.abs(np.cross(header.orientation[:3], header.orientation[3:]))
    return ("sagittal", "coronal", "axial")[int(np.argmax(normal))]

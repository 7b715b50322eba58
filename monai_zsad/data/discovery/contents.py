"""Contents of a folder: volume files, 2D images and DICOM series, also those inside zip archives, and the rest."""

from __future__ import annotations

import filecmp
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai_zsad.data.codes import CODES
from monai_zsad.data.dicom import Series, group_series
from monai_zsad.data.discovery.archives import extract_archives, is_archive
from monai_zsad.data.discovery.left_out import LeftOut, broken_file, no_scan_series, unread_file
from monai_zsad.data.discovery.masks import label_count, named_as_mask
from monai_zsad.data.formats import SLICE_SUFFIXES, is_volume, scan_file
from monai_zsad.result_files import has_results

__all__ = ["Contents", "look_into"]

_SEGMENTATION = ".seg.nrrd"
_logger = logging.getLogger(__name__)


@dataclass
class Contents:
    """Contents of a folder.

    Attributes:
        base: the folder.
        archive: the archive that was unpacked there, if the user gave its path.
        files: how many files were examined, including those in archives.
        volumes: volume files that are scans, in order.
        images: 2D image files that are scans, in order.
        masks: volumes and images of which the user gave the path itself, and that look like masks.
        series: DICOM series that are scans.
        left_out: everything that is not screened.
        unpacked: folders of the unpacked archives, by the path of the archive.
    """

    base: Path
    archive: Path | None = None
    files: int = 0
    volumes: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    unpacked: dict[Path, Path] = field(default_factory=dict)

    def archive_of(self, path: Path) -> Path | None:
        """The archive in the folder from which a file or folder was unpacked, if any."""
        return next((archive for archive, folder in self.unpacked.items() if path.is_relative_to(folder)), None)

    def shown(self, path: Path) -> Path:
        """The path as the user knows it; for a file in an archive, the path of the archive and the path inside it."""
        if self.archive is not None and path.is_relative_to(self.base):
            return self.archive / path.relative_to(self.base)
        archive = self.archive_of(path)
        return path if archive is None else archive / path.relative_to(self.unpacked[archive])

    def parts(self, path: Path) -> tuple[str, ...]:
        """The path below the searched folder; an archive counts as a folder with its name."""
        archive = self.archive_of(path)
        if archive is None:
            return path.relative_to(self.base).parts
        folder = self.unpacked[archive]
        return (*archive.parent.relative_to(self.base).parts, folder.name, *path.relative_to(folder).parts)

    def summary(self) -> str:
        """Reasons with their codes and counts, for a message; empty if nothing was left out."""
        reasons: Counter[str] = Counter()
        for one in self.left_out:
            reasons[f"{one.reason} ({one.code})"] += one.files
        return "".join(f"; left out {count} x {reason}" for reason, count in sorted(reasons.items()))


def look_into(
    root: Path,
    files: Sequence[Path] | None = None,
    *,
    exclude: str | os.PathLike[str] | None = None,
    archive: Path | None = None,
) -> Contents:
    """Sort the files at a path into volumes, 2D images, DICOM series, and what is not screened.

    A series or file that lies in an archive and also beside it is taken once, from beside it. A file that has the name
    and the values of a mask counts as a mask, unless the user gave the path of the file itself. 2D images are scans
    only where there are no volumes. Other files, for example texts, are not inputs: they are only counted.

    Args:
        root: folder or file; a DICOMDIR stands for its folder.
        files: those at or below ``root``, in any order; None searches them.
        exclude: folder that is left out.
        archive: the archive that was unpacked into ``root``. Archives inside archives are not unpacked.

    Returns:
        The contents.
    """
    if root.is_file() and root.name.upper() == "DICOMDIR":
        root = root.parent
    named = root.is_file()
    contents = Contents(root.parent if named else root, archive)
    if files is None:
        files = [root] if named else _walk(contents, root, exclude)
    zips = [file for file in files if is_archive(file)]
    if archive is None:
        contents.unpacked, refused = extract_archives(zips, contents.base)
        contents.left_out += [LeftOut(file, code, reason) for file, (code, reason) in refused.items()]
    else:
        _leave_nested(contents, zips)
    _add(contents, [file for file in files if not is_archive(file)])
    for folder in contents.unpacked.values():
        members = _walk(contents, folder)
        _leave_nested(contents, [file for file in members if is_archive(file)])
        _add(contents, [file for file in members if not is_archive(file)])
    _find_masks(contents, named=named)
    _leave_pictures(contents)
    _log(contents)
    return contents


def _walk(contents: Contents, root: Path, exclude: str | os.PathLike[str] | None = None) -> list[Path]:
    """Every file at or below a folder that is not hidden, in order.

    Links to folders elsewhere are followed once. Pipes and devices are left out, because reading them could wait
    forever. Results of an earlier run below ``root`` are left out, because their maps are not scans.
    """
    found: list[Path] = []
    excluded = None if exclude is None else Path(exclude).expanduser().resolve()
    followed = [root.resolve()]

    def closed(error: OSError) -> None:
        path = contents.shown(Path(error.filename))
        contents.left_out.append(LeftOut(path, "closed", f"cannot be opened ({error.strerror})"))

    for folder, subfolders, names in os.walk(root, onerror=closed, followlinks=True):
        if Path(folder).resolve() == excluded:
            subfolders.clear()
            continue
        shown = [Path(folder, name) for name in sorted(subfolders) if not name.startswith(".")]
        earlier = [path for path in shown if has_results(path)]
        for path in earlier:
            contents.left_out.append(
                LeftOut(contents.shown(path), "earlier-results", "folder with results of an earlier run")
            )
        if earlier:
            _logger.info("%s: left out %d folders with results of an earlier run", Path(folder), len(earlier))
        subfolders[:] = [path.name for path in shown if path not in earlier and _is_new(path, followed)]
        files = (Path(folder) / name for name in sorted(names) if not name.startswith("."))
        # A broken link is kept, so that the missing scan is reported.
        found += [file for file in files if file.is_file() or not file.exists()]
    return found


def _is_new(folder: Path, followed: list[Path]) -> bool:
    """Whether a folder is not a link, or is a link to a folder that is not searched otherwise."""
    if not folder.is_symlink():
        return True
    target = folder.resolve()
    if any(target.is_relative_to(one) or one.is_relative_to(target) for one in followed):
        return False
    followed.append(target)
    return True


def _leave_nested(contents: Contents, archives: Iterable[Path]) -> None:
    for file in archives:
        contents.left_out.append(LeftOut(contents.shown(file), "unread-archive", "lies in another archive"))


def _add(contents: Contents, files: Sequence[Path]) -> None:
    # The header of a pair stands for both of its files.
    parts = [file for file in files if is_volume(file)]
    volumes = list(dict.fromkeys(scan_file(file) for file in parts))
    images = [file for file in files if file.name.lower().endswith(SLICE_SUFFIXES)]
    broken: list[Path] = []
    kept, skipped = group_series(sorted(set(files) - set(parts) - set(images)), broken)
    known, outside = {one.header.uid for one in contents.series}, list(contents.volumes)
    contents.files += len(files)
    for file in volumes:
        if file.name.lower().endswith(_SEGMENTATION):
            found = LeftOut(contents.shown(file), "mask", "segmentation of 3D Slicer", "give the scan that it shows")
            contents.left_out.append(found)
        elif any(_same(file, other) for other in outside):
            contents.left_out.append(LeftOut(contents.shown(file), "copy", "same file outside of the archive"))
        else:
            contents.volumes.append(file)
    contents.images += images
    contents.series += [one for one in kept if one.header.uid not in known]
    for one in skipped:
        if (found_series := no_scan_series(one, _shown_series(contents, one))) is not None:
            contents.left_out.append(found_series)
    for one in kept:
        if one.header.uid in known:
            path = _shown_series(contents, one)
            contents.left_out.append(LeftOut(path, "copy", "same series outside of the archive", source=one))
    # A link may lead nowhere.
    broken = [file for file in broken if file.exists()]
    contents.left_out += [broken_file(file, contents.shown(file)) for file in broken]
    # DICOM files are recognised by their content, not by their name.
    others = set(files).difference(parts, images, broken, *(one.files for one in [*kept, *skipped]))
    has_scans = bool(contents.volumes or contents.series)
    unread = (unread_file(file, contents.shown(file), has_scans) for file in sorted(others))
    contents.left_out += [one for one in unread if one is not None]


def _shown_series(contents: Contents, series: Series) -> Path:
    return contents.shown(series.folder if len(series.files) > 1 else series.files[0])


def _find_masks(contents: Contents, *, named: bool) -> None:
    for files in (contents.volumes, contents.images):
        for file in list(files):
            by_name = named_as_mask(contents.parts(file))
            if not ((by_name or named) and label_count(file, named=by_name)):
                continue
            if named:
                contents.masks.append(file)
            else:
                files.remove(file)
                reason = "looks like a mask, by its name and few whole values"
                contents.left_out.append(LeftOut(contents.shown(file), "mask", reason, source=file))


def _leave_pictures(contents: Contents) -> None:
    if contents.volumes or contents.series:
        contents.left_out += [
            LeftOut(contents.shown(file), "image-beside", "image beside scans", source=file) for file in contents.images
        ]
        contents.images = []


def _log(contents: Contents) -> None:
    counts: Counter[str] = Counter()
    for one in contents.left_out:
        if one.is_refused:
            _logger.warning("%s was left out: %s", one.path, one.sentence)
        else:
            counts[CODES[one.code].meaning] += 1
    for meaning, count in sorted(counts.items()):
        _logger.info("%s: left out %d x %s", contents.base, count, meaning)


def _same(file: Path, other: Path) -> bool:
    return file.name == other.name and filecmp.cmp(file, other, shallow=False)

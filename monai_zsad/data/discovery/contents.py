"""Contents of a folder: volume files, 2D images and DICOM series, also those inside zip archives."""

from __future__ import annotations

import filecmp
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monai_zsad.data.dicom import Series, group_series, why_not_a_scan
from monai_zsad.data.discovery.archives import extract_archives, is_archive, is_other_archive
from monai_zsad.data.discovery.masks import label_count, named_as_mask
from monai_zsad.data.formats import IMAGE_SUFFIXES, SLICE_SUFFIXES
from monai_zsad.result_files import has_results

__all__ = ["Contents", "list_files", "look_into"]

_SEGMENTATION = ".seg.nrrd"
_UNREAD = (".mgz", ".mgh", ".img", ".img.gz", ".mnc", ".mif", ".mif.gz")
_logger = logging.getLogger(__name__)


@dataclass
class Contents:
    """Contents of a folder.

    Attributes:
        base: the folder.
        files: how many files were examined, including those in archives.
        volumes: volume files, in order.
        images: 2D image files, in order.
        segmentations: volume files that are label maps by their name, in order.
        masks: volume files and 2D images that look like masks. They are not in ``volumes`` and ``images``, unless
            the user gave the path of the file itself.
        series: DICOM series that are scans.
        skipped: DICOM series that are not scans, each with the reason.
        copies: volume files in archives that also lie beside the archive.
        unusable: archives, and volumes of formats that are not read, each with the reason.
        unpacked: folders of the unpacked archives, by the path of the archive.
    """

    base: Path
    files: int = 0
    volumes: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    segmentations: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    skipped: list[tuple[Series, str]] = field(default_factory=list)
    copies: list[Path] = field(default_factory=list)
    unusable: dict[Path, str] = field(default_factory=dict)
    unpacked: dict[Path, Path] = field(default_factory=dict)

    def archive_of(self, path: Path) -> Path | None:
        """The archive from which a file or folder was unpacked, if any."""
        return next((archive for archive, folder in self.unpacked.items() if path.is_relative_to(folder)), None)

    def shown(self, path: Path) -> Path:
        """The path as the user knows it; for a file in an archive, the path of the archive and the path inside it."""
        archive = self.archive_of(path)
        return path if archive is None else archive / path.relative_to(self.unpacked[archive])

    def parts(self, path: Path) -> tuple[str, ...]:
        """The path below the searched folder; an archive counts as a folder with its name."""
        archive = self.archive_of(path)
        if archive is None:
            return path.relative_to(self.base).parts
        folder = self.unpacked[archive]
        return (*archive.parent.relative_to(self.base).parts, folder.name, *path.relative_to(folder).parts)

    def left_out(self) -> str:
        """Reasons with their counts, for a message; empty if nothing was left out."""
        reasons = Counter(["segmentation of 3D Slicer"] * len(self.segmentations) + ["mask"] * len(self.masks))
        for series, reason in self.skipped:
            reasons[reason] += len(series.members)
        reasons.update(f"file that {reason}" for reason in self.unusable.values())
        return "".join(f"; left out {count} x {reason}" for reason, count in sorted(reasons.items()))


def look_into(base: Path, files: Sequence[Path], *, archives: bool = True, named: bool = False) -> Contents:
    """Sort files into volumes, 2D images and DICOM series.

    A series or file that lies in an archive and also beside it is taken once, from beside it. A file that has the name
    and the values of a mask counts as a mask.

    Args:
        base: folder at or below which they lie.
        files: in any order.
        archives: whether zip archives among them are unpacked; archives inside archives are always left out.
        named: whether the user gave the paths of the files themselves, so that masks are read, too.

    Returns:
        The contents.
    """
    zips = [file for file in files if is_archive(file)]
    contents = Contents(base)
    if archives:
        contents.unpacked, contents.unusable = extract_archives(zips, base)
    else:
        contents.unusable = dict.fromkeys(zips, "lies in another archive")
    _add(contents, [file for file in files if not is_archive(file)])
    for folder in contents.unpacked.values():
        members = list_files(folder)
        contents.unusable |= {contents.shown(file): "lies in another archive" for file in members if is_archive(file)}
        _add(contents, [file for file in members if not is_archive(file)])
    _find_masks(contents, named=named)
    for file, reason in contents.unusable.items():
        _logger.warning("%s was left out: %s", file, reason)
    return contents


def list_files(root: Path, exclude: str | os.PathLike[str] | None = None) -> list[Path]:
    """Every file at or below a path that is not hidden, in order.

    Links to folders elsewhere are followed once. Pipes and devices are left out, because reading them could wait
    forever. Results of an earlier run below ``root`` are left out, because their maps are not scans.

    Args:
        root: file or folder; a DICOMDIR stands for its folder.
        exclude: folder that is left out.

    Returns:
        Paths.
    """
    if root.is_file() and root.name.upper() == "DICOMDIR":
        root = root.parent
    if root.is_file():
        return [root]
    found: list[Path] = []
    left_out = None if exclude is None else Path(exclude).expanduser().resolve()
    followed = [root.resolve()]
    for folder, subfolders, names in os.walk(root, onerror=_say_unreadable, followlinks=True):
        if Path(folder).resolve() == left_out:
            subfolders.clear()
            continue
        shown = sorted(name for name in subfolders if not name.startswith("."))
        scans = [name for name in shown if not has_results(Path(folder, name))]
        if len(scans) < len(shown):
            _logger.info("%s: left out %d folders with results of an earlier run", folder, len(shown) - len(scans))
        subfolders[:] = [name for name in scans if _is_new(Path(folder, name), followed)]
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


def _say_unreadable(error: OSError) -> None:
    _logger.warning("%s was left out: it cannot be opened (%s)", error.filename, error.strerror)


def _add(contents: Contents, files: Sequence[Path]) -> None:
    volumes = [file for file in files if file.name.lower().endswith(IMAGE_SUFFIXES)]
    segmentations = [file for file in volumes if file.name.lower().endswith(_SEGMENTATION)]
    images = [file for file in files if file.name.lower().endswith(SLICE_SUFFIXES)]
    kept, skipped = group_series(sorted(set(files) - set(volumes) - set(images)))
    known = {one.header.uid for one in contents.series}
    contents.files += len(files)
    contents.segmentations += segmentations
    volumes = [file for file in volumes if file not in segmentations]
    copies = [file for file in volumes if any(_same(file, other) for other in contents.volumes)]
    contents.copies += copies
    contents.volumes += [file for file in volumes if file not in copies]
    contents.images += images
    # DICOM files are recognised by their content, not by their name.
    others = set(files).difference(*(one.files for one in [*kept, *skipped]))
    contents.unusable |= {contents.shown(file): reason for file in sorted(others) if (reason := _why_unread(file))}
    contents.series += [one for one in kept if one.header.uid not in known]
    contents.skipped += [(one, why_not_a_scan(one.header)) for one in skipped]
    contents.skipped += [(one, "same series outside of the archive") for one in kept if one.header.uid in known]


def _why_unread(file: Path) -> str:
    if is_other_archive(file):
        return "is not a zip archive: unpack it"
    return "has a format that is not read: convert it to NIfTI" if file.name.lower().endswith(_UNREAD) else ""


def _find_masks(contents: Contents, *, named: bool) -> None:
    for files in (contents.volumes, contents.images):
        for file in list(files):
            by_name = named_as_mask(contents.parts(file))
            if (by_name or named) and label_count(file, named=by_name):
                contents.masks.append(file)
                if not named:
                    files.remove(file)
    if contents.masks and not named:
        _logger.warning(
            "%s: left out %d x mask, by name and values; to screen such a file, give the path of the file itself",
            contents.base,
            len(contents.masks),
        )


def _same(file: Path, other: Path) -> bool:
    return file.name == other.name and filecmp.cmp(file, other, shallow=False)

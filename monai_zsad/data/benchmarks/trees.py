"""Folders, 2D images, volumes and their masks, found by their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monai_zsad.data.formats import IMAGE_SUFFIXES

__all__ = [
    "MASK_ENDINGS",
    "PICTURE_SUFFIXES",
    "Found",
    "child",
    "folders",
    "images_in",
    "is_volume",
    "mask_of",
    "masks_in",
    "part_of",
    "stem_of",
    "volumes",
]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Endings (lower case) of 2D image files."""

MASK_ENDINGS = ("_mask", "_seg", "_segmentation", "_lesion", "_lesions", "_label", "_gt")
"""Endings of the stem of a mask, after the stem of its image."""

_PARTS = {"valid": ("valid", "val"), "val": ("val", "valid")}


@dataclass(frozen=True)
class Found:
    """An image or volume of a data set.

    Attributes:
        image: its file.
        mask: the file of its mask, or ``None``.
        anomalous: 0 or 1; -1 if the label has to be read from the mask.
        class_name: its class, as the data set names it.
    """

    image: Path
    mask: Path | None
    anomalous: int
    class_name: str


def folders(folder: Path | None) -> list[Path]:
    """Folders in a folder, sorted, without hidden folders; empty if the folder does not exist."""
    if folder is None or not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.name[0] != "." and f.is_dir())


def child(folder: Path | None, *names: str) -> Path | None:
    """The first of the named folders that exists in ``folder``; upper and lower case are equal.

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> (root / "Test").mkdir()
    >>> child(root, "val", "test").name
    'Test'
    """
    if folder is None:
        return None
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    if folder.is_dir():
        wanted = [name.lower() for name in names]
        there = {f.name.lower(): f for f in reversed(folders(folder)) if f.name.lower() in wanted}
        return next((there[name] for name in wanted if name in there), None)
    return None


def part_of(folder: Path, part: str) -> Path | None:
    """The folder of a part of a data set; ``val`` and ``valid`` are the same."""
    return child(folder, *_PARTS.get(part.lower(), (part,)))


def images_in(folder: Path | None) -> list[Path]:
    """2D images in a folder, sorted, without hidden files."""
    if folder is None or not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES and f.name[0] != ".")


def masks_in(folder: Path) -> dict[str, Path]:
    """2D images of a folder by their stems in lower case, for :func:`mask_of`."""
    return {file.stem.lower(): file for file in reversed(images_in(folder))}


def mask_of(image: Path, masks: Mapping[str, Path]) -> Path | None:
    """The mask of an image: the file of its own stem, or of its stem and one of :data:`MASK_ENDINGS`.

    >>> mask_of(Path("000.png"), {"000_mask": Path("000_mask.png")}).name
    '000_mask.png'
    """
    stem = image.stem.lower()
    return next((masks[stem + ending] for ending in ("", *MASK_ENDINGS) if stem + ending in masks), None)


def volumes(folder: Path) -> list[Path]:
    """Volume files in a folder, sorted, without hidden files."""
    return [file for file in sorted(folder.iterdir()) if is_volume(file)] if folder.is_dir() else []


def is_volume(file: Path) -> bool:
    """Whether a file is a volume, by its name.

    >>> is_volume(Path("anna.nii.gz")), is_volume(Path("._anna.nii.gz"))
    (True, False)
    """
    return file.name[0] != "." and file.name.lower().endswith(IMAGE_SUFFIXES)


def stem_of(file: Path) -> str:
    """Name of a volume file without its ending.

    >>> stem_of(Path("anna.nii.gz"))
    'anna'
    """
    ending = max((suffix for suffix in IMAGE_SUFFIXES if file.name.lower().endswith(suffix)), key=len)
    return file.name[: -len(ending)]

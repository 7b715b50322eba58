"""Unpacking zip archives of scans; an archive cannot write outside of its folder or fill the disk."""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from monai_zsad.data.codes import CODES, refusal
from monai_zsad.data.scan import most_unpacked
from monai_zsad.errors import InputError

__all__ = [
    "MAX_ARCHIVE_BYTES",
    "extract_archive",
    "extract_archives",
    "is_archive",
    "is_other_archive",
    "temporary_folder",
]

MAX_ARCHIVE_BYTES = 1 << 34
"""Largest unpacked size of an archive by default: 16 GiB."""

_MOST_MEMBERS = 200_000
_OTHERS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, by its name."""
    return path.name.lower().endswith(".zip")


def is_other_archive(path: Path) -> bool:
    """Whether a file is an archive of another kind, by its name; these are not unpacked."""
    return path.name.lower().endswith(_OTHERS)


def extract_archive(
    path: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None, max_bytes: int = MAX_ARCHIVE_BYTES
) -> Path:
    """Unpack a zip archive.

    The list of members is checked before the first byte is written.

    Args:
        path: of the archive.
        folder: an empty or new folder to unpack into; None makes a temporary one, which is removed when Python ends.
        max_bytes: limit of the unpacked size in bytes.

    Returns:
        A folder with the name of the archive, which holds its members.

    Raises:
        InputError: if the archive is damaged, encrypted, too large, or has links or members outside of its folder.

    Example:
        >>> source = Path(tempfile.mkdtemp()) / "study.zip"
        >>> with zipfile.ZipFile(source, "w") as archive:
        ...     archive.writestr("a/scan.nii", b"...")
        >>> [file.name for file in extract_archive(source).rglob("*.nii")]
        ['scan.nii']
    """
    source = Path(path).expanduser()
    try:
        with zipfile.ZipFile(source) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check(source, members, max_bytes)
            base = temporary_folder() if folder is None else Path(folder).expanduser()
            target = base / (source.stem.strip(". ") or "archive")
            target.mkdir(parents=True, exist_ok=True)
            if sum(member.file_size for member in members) > shutil.disk_usage(target).free:
                finding = f"does not fit on the disk of {target}"
                raise refusal(source, "too-large", finding, "unpack it on another disk and give the folder")
            for member in members:
                archive.extract(member, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise refusal(source, "damaged", f"cannot be unpacked ({error})") from error
    return target


def extract_archives(paths: Sequence[Path], base: Path) -> tuple[dict[Path, Path], dict[Path, tuple[str, str]]]:
    """Unpack the archives that lie in a folder into a temporary one, which is removed when Python ends.

    Args:
        paths: of the archives.
        base: folder in which they lie; their folders below it are kept.

    Returns:
        The folder of the members of every archive, by the path of the archive; and the code and the reason of every
        refused archive. The limit of the unpacked size holds for all archives together, in their order.
    """
    unpacked: dict[Path, Path] = {}
    refused: dict[Path, tuple[str, str]] = {}
    folder, left = temporary_folder() if paths else base, MAX_ARCHIVE_BYTES
    for number, path in enumerate(paths):
        below = path.parent.relative_to(base)
        try:
            # Each needs its own folder, because the names of two archives may differ only in their endings.
            unpacked[path] = extract_archive(path, folder / str(number) / below, left)
        except InputError as error:
            refused[path] = error.code, str(error).removeprefix(f"{path}: ").partition("; ")[0]
            continue
        left -= sum(file.stat().st_size for file in unpacked[path].rglob("*") if file.is_file())
    return unpacked, refused


def _check(source: Path, members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        kind = stat.S_IFMT(member.external_attr >> 16)
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            finding = f"its member {member.filename!r} lies outside of its folder"
        elif kind not in (0, stat.S_IFREG):
            finding = f"its member {member.filename!r} is a link or device"
        elif member.flag_bits & 1:
            finding = f"its member {member.filename!r} is encrypted"
        else:
            continue
        raise refusal(source, "unsafe-archive", finding)
    unpacked = sum(member.file_size for member in members)
    if unpacked > max_bytes or len(members) > _MOST_MEMBERS:
        finding = f"holds {len(members)} files of {unpacked} bytes, above the limit of {max_bytes} bytes"
        raise refusal(source, "too-large", finding, CODES["unsafe-archive"].remedy)
    if unpacked > most_unpacked(source.stat().st_size):
        finding = f"its {source.stat().st_size} bytes unpack to {unpacked} bytes, far more than any scan does"
        raise refusal(source, "implausible-compression", finding)


def temporary_folder() -> Path:
    """A new folder that is removed when Python ends."""
    folder = Path(tempfile.mkdtemp(prefix="monai-zsad-"))
    owner = os.getpid()

    def remove() -> None:
        # A forked worker inherits this function, but does not own the folder.
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder

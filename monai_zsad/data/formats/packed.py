"""Packed files: recognised by their first bytes, whatever their name is, and unpacked as a stream."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from io import BufferedReader
from pathlib import Path
from typing import Any

from monai_zsad.data.checks import MOST_TRAILING_BYTES
from monai_zsad.data.codes import refusal
from monai_zsad.data.scan import READ_ERRORS, most_unpacked

__all__ = [
    "PACKED_SUFFIXES",
    "UNPACK_ERRORS",
    "file_beside",
    "open_unpacked",
    "packing_of",
    "read_to_end",
    "unpack",
    "unpacked_head",
    "without_packing",
]

_MAGICS = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00", ".zst": b"\x28\xb5\x2f\xfd"}
PACKED_SUFFIXES = tuple(_MAGICS)
"""Endings (lower case) of packed files; they are recognised by their content."""

_GZIP_EXTRA_FLAGS = (0, 2, 4)
_GZIP_SYSTEMS = (*range(14), 255)
_PART = 1 << 22


def _zstd() -> Any:
    """The module that unpacks zstd: part of Python 3.14, a package before; None if it is missing."""
    try:
        from compression import zstd  # type: ignore[import-not-found]
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            return None
    return zstd


UNPACK_ERRORS: tuple[type[Exception], ...] = (
    *READ_ERRORS,
    lzma.LZMAError,
    *([] if (_found := _zstd()) is None else [_found.ZstdError]),
)
"""Exceptions of damaged files, including those that are packed."""


def packing_of(path: Path) -> str:
    """How a file is packed, by its first bytes.

    Args:
        path: of the file.

    Returns:
        One of :data:`PACKED_SUFFIXES`, or an empty string.
    """
    with path.open("rb") as stream:
        head = stream.read(6)
    return next((suffix for suffix, magic in _MAGICS.items() if head.startswith(magic)), "")


def open_unpacked(path: Path) -> Any:
    """The bytes of a file, unpacked if it is packed.

    Args:
        path: of the file.

    Returns:
        A binary stream that can be searched. It checks the checksum where the packed data end.

    Raises:
        InputError: if the package that unpacks the file is not installed.
        ValueError: if the header of a gzip file is damaged.
    """
    packing = packing_of(path)
    if packing == ".gz":
        with path.open("rb") as stream:
            _check_gzip_header(stream)
        return gzip.open(path)
    if packing == ".bz2":
        return bz2.open(path)
    if packing == ".xz":
        return lzma.open(path)
    if packing == ".zst":
        zstd = _zstd()
        if zstd is None:
            remedy = "install backports.zstd, or unpack the file"
            raise refusal(path, "no-codec", "is packed with zstd, which needs a package that is not installed", remedy)
        return zstd.open(path)
    return path.open("rb")


def unpacked_head(path: Path, count: int) -> bytes:
    """The first bytes of a file, unpacked if it is packed.

    Args:
        path: of the file.
        count: of bytes; fewer are returned if the file is shorter.
    """
    with open_unpacked(path) as stream:
        head: bytes = stream.read(count)
    return head


def unpack(path: Path, max_bytes: int) -> io.BytesIO:
    """A whole file in memory, unpacked if it is packed.

    Args:
        path: of the file.
        max_bytes: limit of the unpacked size.

    Returns:
        Its bytes.

    Raises:
        InputError: if it unpacks to more than ``max_bytes``, or to far more data than a scan of its size can hold.
    """
    limit = min(max_bytes, most_unpacked(path.stat().st_size)) if packing_of(path) else max_bytes
    with open_unpacked(path) as stream:
        content = io.BytesIO()
        while chunk := stream.read(_PART):
            content.write(chunk)
            if content.tell() > limit:
                code = "implausible-compression" if limit < max_bytes else "too-large"
                raise refusal(path, code, f"unpacks to more than {limit} bytes")
    content.seek(0)
    return content


def read_to_end(stream: Any, declared: int) -> int:
    """Read a stream to its end, where the checksum is; much more than is declared is not read.

    Args:
        stream: of :func:`open_unpacked`, at any place.
        declared: bytes that it should have.

    Returns:
        How many bytes it has, or more than ``declared`` and a few more.
    """
    while stream.tell() <= declared + MOST_TRAILING_BYTES and stream.read(_PART):
        pass
    return int(stream.tell())


def without_packing(name: str) -> str:
    """A file's name without the ending of a packed file.

    Example:
        >>> without_packing("a.nii.gz"), without_packing("a.nii")
        ('a.nii', 'a.nii')
    """
    packing = next((suffix for suffix in PACKED_SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(packing)]


def file_beside(path: Path, suffix: str) -> Path | None:
    """The other file of a pair: the same name with another ending, perhaps packed, in the same folder.

    Args:
        path: of one file.
        suffix: ending of the other, in lower case.
    """
    stem = Path(without_packing(path.name)).stem
    names = (f"{stem}{ending}{packing}" for ending in (suffix, suffix.upper()) for packing in ("", *PACKED_SUFFIXES))
    return next((path.parent / name for name in names if (path.parent / name).is_file()), None)


def _check_gzip_header(stream: BufferedReader) -> None:
    """The checksum does not cover the ten bytes before the data, and Python does not check all of them."""
    head = stream.peek(10)[:10]
    if len(head) < 10 or head[3] & 0b11100001 or head[8] not in _GZIP_EXTRA_FLAGS or head[9] not in _GZIP_SYSTEMS:
        raise ValueError("not a gzip header")

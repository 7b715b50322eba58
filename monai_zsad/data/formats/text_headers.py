"""What NRRD and MetaImage have in common: a text header, and data behind it or in a file beside it."""

from __future__ import annotations

import bz2
import zlib
from dataclasses import dataclass
from pathlib import Path

from monai_zsad.data.checks import MOST_TRAILING_BYTES, check_size
from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.scan import ReadOptions

__all__ = ["TextFile", "check_data", "check_unit", "parse_header", "unpack_data"]

_HEADER_BYTES = 1 << 20
_DATA_KEYS = ("data file", "datafile", "elementdatafile")
_GZIP, _BZIP2 = ("gzip", "gz"), ("bzip2", "bz2")


@dataclass(frozen=True)
class TextFile:
    """A file whose text header was read.

    Attributes:
        path: of the file.
        fields: of the header, with keys in lower case.
        data: the file that holds the voxels: the same file or one beside it.
        offset: bytes before the voxels.
        is_nrrd: whether it is NRRD; otherwise it is MetaImage.
        declared_bytes: size of the voxels, as the header declares it.
    """

    path: Path
    fields: dict[str, str]
    data: Path
    offset: int
    is_nrrd: bool
    declared_bytes: int = 0

    @property
    def packing(self) -> str:
        """How the voxels are packed: ``"gzip"``, ``"bzip2"``, or an empty string."""
        encoding = self.fields.get("encoding", "").lower()
        if encoding in _BZIP2:
            return "bzip2"
        packed = encoding in _GZIP or self.fields.get("compresseddata", "").lower() == "true"
        return "gzip" if packed else ""

    @property
    def skips(self) -> bool:
        """Whether the voxels do not follow the header at once."""
        return any(key.replace(" ", "") in ("byteskip", "lineskip", "headersize") for key in self.fields)


def parse_header(path: Path) -> TextFile:
    """Read the header of a file.

    A header may name any file of the machine as its data; only a file in the same folder is read.

    Raises:
        InputError: if the data are elsewhere or missing.
        ValueError: if the header does not end.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEADER_BYTES)
    is_nrrd = head.startswith(b"NRRD")
    fields: dict[str, str] = {}
    offset, ended = 0, len(head) < _HEADER_BYTES
    for line in head.splitlines(keepends=True):
        offset += len(line)
        text = line.decode("latin-1")
        # In NRRD, "key:=value" is a note of the program that wrote the file.
        separator = ":" if is_nrrd else "="
        key, found, value = text.partition(separator) if separator in text else text.partition(":")
        if found and not line.startswith(b"#") and not (is_nrrd and value.startswith("=")):
            fields.setdefault(key.strip().lower(), value.strip())
        if not line.strip() or key.strip().lower() == "elementdatafile":
            ended = True
            break
    if not ended:
        raise ValueError(f"its header does not end within {_HEADER_BYTES} bytes")
    target = next((fields[key] for key in _DATA_KEYS if key in fields), "LOCAL")
    if target.upper() == "LOCAL":
        return TextFile(path, fields, path, offset, is_nrrd)
    if Path(target).name != target or target.upper().startswith("LIST"):
        raise refusal(path, "detached-data", f"its data are in a file of another folder ({target})")
    data = path.parent / target
    if not data.is_file() or data.resolve().parent != path.resolve().parent:
        finding = f"its data file {target} is missing, or is a link to another folder"
        raise refusal(path, "detached-data", finding, "put the data file into the folder of the header")
    return TextFile(path, fields, data, 0, is_nrrd)


def check_unit(file: TextFile, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    """Refuse lengths in another unit than mm; ITK knows no other unit."""
    fields = file.fields
    units = (fields.get("space units") or fields.get("distanceunits", "")).replace('"', " ").split()
    if any(unit not in ("mm", "none", "???", "?") for unit in units):
        raise refusal(file.path, "wrong-unit", f"its spacing is in {units[0]}, not mm")
    return []


def check_data(file: TextFile, options: ReadOptions) -> list[Repair]:
    """Compare the size of the data with what the header declares.

    Raises:
        InputError: if a packed file would hold far more data than a scan, or there is far more data than declared.
        ValueError: if voxels are missing.
    """
    stored = file.data.stat().st_size - file.offset
    if file.packing:
        return options.require_plausible(file.path, file.declared_bytes, stored)
    plain = file.fields.get("encoding", "raw").lower() == "raw"
    if plain and file.skips and stored < file.declared_bytes:
        # Counted from the end of the file, the header would be read as voxels.
        raise ValueError(f"truncated: {stored} of {file.declared_bytes} bytes")
    return check_size(file.path, file.declared_bytes, stored) if plain and not file.skips else []


def unpack_data(file: TextFile) -> tuple[bytes, int]:
    """Packed voxels, unpacked to their end, where the checksum is.

    Returns:
        The bytes, up to a few more than declared, and how many bytes of the file they take.

    Raises:
        ValueError: if the packed data end too early.
    """
    unpacker = bz2.BZ2Decompressor() if file.packing == "bzip2" else zlib.decompressobj(wbits=47)
    limit = file.declared_bytes + MOST_TRAILING_BYTES
    parts: list[bytes] = []
    count = taken = 0
    with file.data.open("rb") as stream:
        stream.seek(file.offset)
        while (chunk := stream.read(1 << 16)) and count <= limit:
            parts.append(unpacker.decompress(chunk))
            count += len(parts[-1])
            taken += len(chunk)
            if unpacker.eof:
                return b"".join(parts), taken - len(unpacker.unused_data)
    if count <= file.declared_bytes:
        raise ValueError("truncated: its compressed data end too early")
    return b"".join(parts), taken

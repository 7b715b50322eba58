"""Opening a DICOM file, and checking whether its pixels can be decoded."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from monai_zsad.data.codes import CODES, refusal
from monai_zsad.data.scan import MAX_VOXELS, READ_ERRORS, first_line, most_unpacked
from monai_zsad.errors import InputError

__all__ = ["BARE_SUFFIXES", "limit_deflated", "may_be_bare", "open_dicom", "require_decodable", "require_decoder"]

_PACKAGES = {
    "1.2.840.10008.1.2.4.51": "pylibjpeg and pylibjpeg-libjpeg (GPL)",
    "1.2.840.10008.1.2.4.57": "pylibjpeg and pylibjpeg-libjpeg (GPL)",
    "1.2.840.10008.1.2.4.70": "pylibjpeg and pylibjpeg-libjpeg (GPL)",
    "1.2.840.10008.1.2.4.201": "pylibjpeg and pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.202": "pylibjpeg and pylibjpeg-openjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg and pylibjpeg-openjpeg",
}
"""By transfer syntax, the packages that decode what pydicom alone does not decode."""

BARE_SUFFIXES = (".dcm", ".ima")
"""Endings (lower case) of files that are read as DICOM without the mark ``DICM``: some scanners omit it."""

# A data set without the mark begins with group 0008, in little or big endian.
_FIRST_GROUP = (b"\x08\x00", b"\x00\x08")

_DEFLATED = "1.2.840.10008.1.2.1.99"


def open_dicom(file: Path, max_voxels: int = MAX_VOXELS) -> Any:
    """The data set of a file.

    Raises:
        InputError: if it is empty, damaged, not DICOM, or unpacks to more data than a scan can hold.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        if file.stat().st_size == 0:
            raise refusal(file, "empty-file", "is empty")
        limit_deflated(file, max_voxels)
        # The warnings of pydicom quote values, which may identify a patient.
        with pydicom.config.disable_value_validation():
            dataset = _read_marked_or_bare(file)
            _state_syntax(dataset)
            return dataset
    except (*READ_ERRORS, InvalidDicomError) as error:
        if isinstance(error, InputError):
            raise
        raise refusal(file, "damaged", f"is damaged or is not a scan ({first_line(error)})") from error


def may_be_bare(file: Path) -> bool:
    """Whether a file without the mark ``DICM`` may be DICOM, by its ending or, without an ending, by its first bytes.

    Args:
        file: that can be opened.

    Returns:
        Whether it may be a data set without the mark; only reading it tells for certain.
    """
    suffix = file.suffix.lower()
    if suffix in BARE_SUFFIXES:
        return True
    # Slices are often named without an ending, or end in a number (a UID).
    if suffix and not suffix[1:].isdigit():
        return False
    with file.open("rb") as stream:
        return stream.read(2) in _FIRST_GROUP


def _read_marked_or_bare(file: Path) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        return pydicom.dcmread(file)
    except InvalidDicomError:
        if not may_be_bare(file):
            raise
        dataset = pydicom.dcmread(file, force=True)
        if "SeriesInstanceUID" not in dataset:
            raise
        return dataset


def _state_syntax(dataset: Any) -> None:
    """Uncompressed pixels have the encoding of the header; pydicom does not decode them unless this is stated."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    pixels = dataset.get_item("PixelData") if "PixelData" in dataset else None
    if "TransferSyntaxUID" in dataset.file_meta or pixels is None or getattr(pixels, "is_undefined_length", False):
        return
    implicit, little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def limit_deflated(file: Path, max_voxels: int = MAX_VOXELS) -> None:
    """Limit the size of a deflated file: pydicom unpacks all of it, even to read only the header.

    Raises:
        InputError: if it unpacks to more data than a scan can hold.
    """
    from pydicom.filereader import read_dataset

    with file.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            return
        meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)  # noqa: ARG005
        if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
            return
        size = file.stat().st_size
        limit = min(8 * max_voxels, most_unpacked(size))
        unpacker, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not unpacker.eof and (chunk := unpacker.unconsumed_tail or stream.read(1 << 16)):
            count += len(unpacker.decompress(chunk, 1 << 20))
            if count > limit:
                finding = f"its {size} bytes unpack to more than {limit} bytes, far more than any scan does"
                raise refusal(file, "implausible-compression", finding)


def require_decoder(dataset: Any, file: Path) -> None:
    """Refuse a compression for which no decoder is installed.

    Raises:
        InputError: naming the compression, and the packages that decode it.
    """
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_compressed:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        package = _PACKAGES.get(str(syntax))
        remedy = f"install {package}, or " if package else ""
        finding = f"is compressed as {syntax.name}, and no decoder for it is installed"
        raise refusal(file, "no-codec", finding, f"{remedy}{CODES['no-codec'].remedy}")


def require_decodable(dataset: Any, file: Path) -> None:
    """Refuse pixels that cannot be decoded.

    Raises:
        InputError: with the reason of the decoder.
    """
    try:
        _ = dataset.pixel_array
    except READ_ERRORS as error:
        package = _PACKAGES.get(str(dataset.file_meta.get("TransferSyntaxUID", "")))
        code = "no-codec" if package else "undecodable"
        remedy = f"{f'install {package}' if package else 'copy it again'}, or export it uncompressed"
        raise refusal(file, code, f"its pixels cannot be decoded ({first_line(error)})", remedy) from error

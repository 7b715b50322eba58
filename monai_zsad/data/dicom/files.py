"""Opening a DICOM file, and checking whether its pixels can be decoded."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_zsad.data.codes import CODES, Repair, refusal
from monai_zsad.data.scan import MAX_VOXELS, READ_ERRORS, first_line, most_unpacked
from monai_zsad.dicom_log import drop_character_set_lines
from monai_zsad.dicom_numbers import repair_numbers
from monai_zsad.errors import InputError

__all__ = [
    "BARE_SUFFIXES",
    "PixelElement",
    "is_encapsulated",
    "headers_kept",
    "keeps_headers",
    "limit_deflated",
    "may_be_bare",
    "open_dicom",
    "pixel_element",
    "require_decoder",
    "undecodable",
]

_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_PACKAGES = {
    _JPEG_EXTENDED: "pylibjpeg and pylibjpeg-libjpeg (GPL)",
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
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_DEFERRED_BYTES = 1 << 12
_UNDEFINED = 0xFFFFFFFF
# Each takes about 100 KB.
_MOST_KEPT = 2000
_kept: ContextVar[dict[Path, tuple[Any, list[Repair]]] | None] = ContextVar("_kept", default=None)
_WRONG_NUMBERS = {
    **dict.fromkeys(("RescaleSlope", "RescaleIntercept"), "bad-rescale"),
    **dict.fromkeys(("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"), "no-geometry"),
}


def open_dicom(file: Path, max_voxels: int = MAX_VOXELS) -> tuple[Any, list[Repair]]:
    """The header of a file; its pixels and other large elements are read on first use.

    Returns:
        The data set, and a warning if its numbers were repaired.

    Raises:
        InputError: if the file is empty, damaged, not DICOM, or unpacks to more data than a scan can hold, or if a
            number that decides values or positions is not a number.
    """
    kept = _kept.get()
    if kept is not None and file in kept:
        return kept.pop(file)
    opened = _open(file, max_voxels)
    if kept is not None and len(kept) < _MOST_KEPT:
        kept[file] = opened
    return opened


@contextmanager
def headers_kept() -> Iterator[None]:
    """Within the block, a header that the search for series has read is handed on to the checks, once."""
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def keeps_headers() -> bool:
    """Whether :func:`headers_kept` is active."""
    return _kept.get() is not None


def _open(file: Path, max_voxels: int) -> tuple[Any, list[Repair]]:
    import pydicom
    from pydicom.errors import InvalidDicomError

    drop_character_set_lines()
    try:
        if file.stat().st_size == 0:
            raise refusal(file, "empty-file", "is empty")
        # The elements of a deflated file have no place in the file from which they could be read later.
        later = None if limit_deflated(file, max_voxels) else _DEFERRED_BYTES
        # The warnings of pydicom quote values, which may identify a patient.
        with pydicom.config.disable_value_validation():
            dataset = _read_marked_or_bare(file, later)
            _state_syntax(dataset)
            return dataset, _mend(dataset, file)
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


def _read_marked_or_bare(file: Path, later: int | None) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        dataset = pydicom.dcmread(file, defer_size=later)
        # At an early end of the file, pydicom gives no element at all.
        return dataset if len(dataset) else pydicom.dcmread(file, defer_size=later, stop_before_pixels=True)
    except InvalidDicomError:
        if not may_be_bare(file):
            raise
        dataset = pydicom.dcmread(file, defer_size=later, force=True)
        if "SeriesInstanceUID" not in dataset:
            raise
        return dataset


def _mend(dataset: Any, file: Path) -> list[Repair]:
    repaired = repair_numbers(dataset)
    if repaired.bad:
        keyword = repaired.bad[0]
        finding = f"its {keyword} does not hold numbers that can be read with certainty"
        raise refusal(file, _WRONG_NUMBERS.get(keyword, "damaged"), finding, "correct it, or export it again")
    if not repaired.commas:
        return []
    keywords = ", ".join(sorted(set(repaired.commas)))
    return [Repair("decimal-commas", f"{keywords}: decimal commas were read as decimal points")]


def _state_syntax(dataset: Any) -> None:
    """Uncompressed pixels have the encoding of the header; pydicom does not decode them unless this is stated."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    pixels = dataset.get_item("PixelData", keep_deferred=True) if "PixelData" in dataset else None
    if "TransferSyntaxUID" in dataset.file_meta or pixels is None or getattr(pixels, "length", 0) == _UNDEFINED:
        return
    implicit, little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit


def limit_deflated(file: Path, max_voxels: int = MAX_VOXELS) -> bool:
    """Limit the size of a deflated file: pydicom unpacks all of it, even to read only the header.

    Returns:
        Whether the file is deflated.

    Raises:
        InputError: if it unpacks to more data than a scan can hold.
    """
    from pydicom.filereader import read_dataset

    with file.open("rb") as stream:
        if stream.read(132)[128:] != b"DICM":
            return False
        meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)  # noqa: ARG005
        if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
            return False
        size = file.stat().st_size
        limit = min(8 * max_voxels, most_unpacked(size))
        unpacker, count = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not unpacker.eof and (chunk := unpacker.unconsumed_tail or stream.read(1 << 16)):
            count += len(unpacker.decompress(chunk, 1 << 20))
            if count > limit:
                finding = f"its {size} bytes unpack to more than {limit} bytes, far more than any scan does"
                raise refusal(file, "implausible-compression", finding)
        return True


@dataclass(frozen=True)
class PixelElement:
    """The element of a data set that holds its pixels.

    Attributes:
        keyword: ``PixelData``, or one of those for floating-point pixels.
        vr: its value representation.
        length: its bytes; None where they are not stated, because the frames are encapsulated.
    """

    dataset: Any
    keyword: str
    vr: str
    length: int | None

    def read(self) -> bytes:
        """The bytes of the element, which are not kept in the data set."""
        from pydicom.filereader import read_deferred_data_element

        raw, dataset = self.dataset.get_item(self.keyword, keep_deferred=True), self.dataset
        if raw.value is None and self.length != 0:
            raw = read_deferred_data_element(dataset.fileobj_type, dataset.filename, dataset.timestamp, raw)
        return raw.value or b""

    def present(self) -> int:
        """Bytes that the file holds of the element; fewer than its length if the file was cut short."""
        raw, length = self.dataset.get_item(self.keyword, keep_deferred=True), self.length or 0
        if raw.value is not None:
            return len(raw.value)
        return min(length, Path(self.dataset.filename).stat().st_size - raw.value_tell)


def pixel_element(dataset: Any) -> PixelElement | None:
    """The element that holds the pixels of a data set; None if there is none."""
    for keyword in _PIXELS:
        if keyword in dataset:
            raw = dataset.get_item(keyword, keep_deferred=True)
            stated = getattr(raw, "length", None)
            length = len(raw.value or b"") if stated is None else stated
            return PixelElement(dataset, keyword, str(raw.VR or "OW"), None if length == _UNDEFINED else length)
    return None


def is_encapsulated(dataset: Any) -> bool:
    """Whether the pixels of a data set are encapsulated, as compressed pixels are."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_transfer_syntax:
        element = pixel_element(dataset)
        return element is not None and element.length is None
    return bool(syntax.is_encapsulated)


def require_decoder(dataset: Any, file: Path) -> None:
    """Refuse a compression for which no decoder is installed.

    Raises:
        InputError: naming the compression, and the packages that decode it.
    """
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise undecodable(file, None, "its transfer syntax is not stated")
    try:
        decoder = get_decoder(syntax)
        available = decoder.is_available
        # Pillow decodes this JPEG with 8 bits only.
        if str(syntax) == _JPEG_EXTENDED and int(dataset.get("BitsStored") or 0) > 8:
            available = bool({*decoder.available_plugins} - {"pillow"})
    except NotImplementedError as error:
        if syntax not in _PACKAGES:
            raise undecodable(file, syntax, f"its transfer syntax {syntax} is not known") from error
        available = False
    if not available:
        package = _PACKAGES.get(str(syntax))
        remedy = f"install {package}, or " if package else ""
        finding = f"is compressed as {syntax.name}, and no decoder for it is installed"
        raise refusal(file, "no-codec", finding, f"{remedy}{CODES['no-codec'].remedy}")


def undecodable(file: Path, syntax: Any, reason: str) -> InputError:
    """The error of pixels that cannot be decoded, to be raised.

    Args:
        file: that holds them.
        syntax: its transfer syntax.
        reason: of the decoder.
    """
    package = _PACKAGES.get(str(syntax))
    code = "no-codec" if package else "undecodable"
    remedy = f"{f'install {package}' if package else 'copy it again'}, or export it uncompressed"
    return refusal(file, code, f"its pixels cannot be decoded ({reason})", remedy)

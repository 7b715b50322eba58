"""Texts of a DICOM header in a character set that results can be written in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

__all__ = ["settle_texts"]

_TEXTS = frozenset({"PN", "LO", "SH", "LT", "ST", "UT", "UC"})
_UNICODE = "ISO_IR 192"
_UNDECLARED = ["iso8859"]
_EXTENDED = "ISO 2022 IR "
_MULTI_BYTE = ("87", "149", "159")
_REPLACEMENT, _ESCAPE = "\ufffd", "\x1b"
# Geometry of each frame: no texts of patient and study, but by far the most elements.
_FRAMES = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")


def settle_texts(header: Dataset) -> bool:
    """Decode all texts of a header, and state Unicode as its character set, where results need that.

    Nothing is changed if the stated character set is one of the standard and all texts are valid in it. Otherwise,
    each text is decoded by the stated character set, else as UTF-8. If it is not UTF-8 either, bytes beyond ASCII
    become question marks, or Latin-1 letters if the header states no character set.

    Args:
        header: of a file, as pydicom reads it, with texts that were not converted yet. It is changed in place.

    Returns:
        Whether a text could not be decoded for certain.
    """
    stated = _stated(header)
    encodings = _encodings(stated)
    found = [(dataset, element, *_decoded(raw, encodings)) for dataset, element, raw in _texts(header)]
    certain = all(is_certain for *_, is_certain in found)
    if certain and _can_be_written(stated):
        return False
    for dataset, element, text, _ in found:
        if element.VR in ("LT", "ST", "UT"):
            dataset[element.tag].value = text
        else:
            parts = text.split("\\")
            dataset[element.tag].value = parts if len(parts) > 1 else text
    header.SpecificCharacterSet = _UNICODE
    return not certain


def _stated(header: Dataset) -> tuple[str, ...]:
    value = header.get("SpecificCharacterSet")
    if value is None or isinstance(value, str):
        return (str(value or "").strip(),)
    return tuple(str(part or "").strip() for part in value) or ("",)


def _encodings(stated: Sequence[str]) -> list[str] | None:
    """Python's encodings of the stated character sets; None if one of them is unknown."""
    from pydicom.charset import convert_encodings, python_encoding

    # pydicom corrects terms such as "ISO-IR 100", and takes the default for all others.
    known = all(term in python_encoding or convert_encodings([term]) != _UNDECLARED for term in stated)
    return list(convert_encodings(list(stated))) if known else None


def _can_be_written(stated: Sequence[str]) -> bool:
    """Whether highdicom and validators accept these terms."""
    from pydicom.charset import python_encoding

    if len(stated) == 1:
        return stated[0] in python_encoding and not stated[0].startswith(_EXTENDED)
    extended = all(term.startswith(_EXTENDED) and term in python_encoding for term in stated)
    return extended and stated[0].removeprefix(_EXTENDED) not in _MULTI_BYTE


def _texts(header: Dataset) -> list[tuple[Dataset, DataElement, bytes]]:
    """Every text of a header and of its sequences, with the bytes in the file."""
    found: list[tuple[Dataset, DataElement, bytes]] = []
    for tag in list(header.keys()):
        raw: Any = header.get_item(tag)
        stored = raw.value if isinstance(raw.value, bytes) else None
        element = header[tag]
        if element.VR == "SQ" and element.keyword not in _FRAMES:
            for item in element.value:
                found += _texts(item)
        elif element.VR in _TEXTS and stored:
            found.append((header, element, stored))
    return found


def _decoded(raw: bytes, encodings: list[str] | None) -> tuple[str, bool]:
    """A text, and whether it is certain."""
    from pydicom.charset import decode_bytes
    from pydicom.valuerep import TEXT_VR_DELIMS

    raw = raw.rstrip(b" \0")
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii"), True
    undeclared = encodings == _UNDECLARED
    if encodings is not None and not undeclared:
        text = decode_bytes(raw, encodings, TEXT_VR_DELIMS)
        if _REPLACEMENT not in text and _ESCAPE not in text:
            return text, True
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1") if undeclared else raw.decode("ascii", errors="replace")
    return text.replace(_REPLACEMENT, "?").replace(_ESCAPE, "?"), False

"""Numbers of a DICOM header, as text (VR IS and DS) or binary: what is malformed, can be repaired, or is a label."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RepairedNumbers", "repair_numbers", "numbers_of"]

# Malformed, these are refused by the checks of reading; any other malformed number is a label, and decides nothing.
_DECIDING = frozenset(
    {
        "PixelSpacing",
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "RescaleSlope",
        "RescaleIntercept",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "SamplesPerPixel",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
    }
)
# A corrected comma changes lengths, too; without a usable value, another element is used.
_LENGTHS = frozenset({"ImagerPixelSpacing", "SliceThickness", "SpacingBetweenSlices"})
# Series are split by these, so that the text is kept for the comparison even if it is not a number.
_COMPARED = frozenset(
    {
        "AcquisitionNumber",
        "EchoNumbers",
        "EchoTime",
        "InversionTime",
        "TemporalPositionIdentifier",
        "TriggerTime",
    }
)
_BINARY_BYTES = {"US": 2, "SS": 2, "US or SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "SV": 8, "UV": 8}
_NUMBERS = frozenset({None, "IS", "DS", *_BINARY_BYTES})
_NESTED = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_INTEGER = re.compile(rb" *[+-]?\d+(\.0*)? *")
_DECIMAL = re.compile(rb" *([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)) *", re.IGNORECASE)
_COMMA = re.compile(rb" *[+-]?\d*,\d+([eE][+-]?\d+)? *")
_THOUSANDS = re.compile(rb" *[+-]?[1-9]\d{0,2},\d{3} *")


@dataclass
class RepairedNumbers:
    """What was found in the numbers of a header.

    Attributes:
        commas: keywords of values and positions whose decimal commas were read as decimal points.
        bad: keywords of values and positions that are not numbers; they are empty now.
    """

    commas: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


def repair_numbers(dataset: Any) -> RepairedNumbers:
    r"""Make the numbers of a data set readable, in place, before pydicom converts them and raises.

    A decimal comma becomes a decimal point. A comma is never taken as a separator of values, and a rescale such as
    ``-1,024`` is refused, because the comma may separate thousands. Numbers that are labels, such as a SeriesNumber
    ``3A`` or ``3\1``, are emptied, as if they were not stated; those by which volumes are told apart become texts.
    Binary numbers of another length than their type has are emptied, too.

    Args:
        dataset: as read, before its elements are used. Functional groups of an enhanced file are repaired, too.

    Returns:
        What was repaired, and what decides a value or a position and is not a number.

    Example:
        >>> from pydicom import Dataset
        >>> from pydicom.dataelem import RawDataElement
        >>> from pydicom.tag import Tag
        >>> dataset, spacing, number = Dataset(), Tag("PixelSpacing"), Tag("SeriesNumber")
        >>> for tag, vr, value in ((spacing, "DS", b"0,5\\0,75"), (number, "IS", b"3A")):
        ...     dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
        >>> repair_numbers(dataset).commas, dataset.PixelSpacing, dataset.SeriesNumber
        (['PixelSpacing'], [0.5, 0.75], None)
    """
    found = RepairedNumbers()
    for part in _parts(dataset):
        for raw in list(part.values()):
            # Most elements are texts. Values that pydicom has converted are well formed.
            if isinstance(raw.value, bytes) and raw.VR in _NUMBERS:
                _mend_element(part, raw, found)
    return found


def numbers_of(dataset: Any, keyword: str) -> tuple[float, ...]:
    """The numbers of an element; none if it is absent or empty, or holds anything else.

    Example:
        >>> from pydicom import Dataset
        >>> dataset = Dataset()
        >>> dataset.PixelSpacing = [0.5, 0.75]
        >>> numbers_of(dataset, "PixelSpacing"), numbers_of(dataset, "ImagePositionPatient")
        ((0.5, 0.75), ())
    """
    value = dataset.get(keyword)
    several = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    try:
        return tuple(float(one) for one in (value if several else [value])) if value is not None else ()
    except (TypeError, ValueError):
        return ()


def _parts(dataset: Any) -> Iterator[Any]:
    """The data set, and the items of the functional groups of its frames."""
    yield dataset
    for name in _NESTED:
        for frame in dataset.get(name) or ():
            for tag in frame.keys():  # noqa: SIM118 - iterating over a data set would convert its elements
                if _kind(frame.get_item(tag)) == "SQ":
                    yield from frame[tag].value


def _kind(element: Any) -> str:
    """The VR of an element, or an empty string for an element that is not in the standard."""
    from pydicom.datadict import dictionary_VR

    try:
        return "" if element.tag.is_private else str(element.VR or dictionary_VR(element.tag))
    except KeyError:
        return ""


def _mend_element(dataset: Any, raw: Any, found: RepairedNumbers) -> None:
    from pydicom.datadict import dictionary_VM, keyword_for_tag

    tag, value, kind = raw.tag, raw.value, _kind(raw)
    keyword = keyword_for_tag(tag)
    binary = kind or str(raw.VR)
    if len(value) % _BINARY_BYTES.get(binary, 1):
        _empty(dataset, tag, binary.partition(" ")[0], keyword, found)
    if kind not in ("IS", "DS"):
        return
    parts = value.rstrip(b"\0 ").split(b"\\")
    several = len(parts) > 1 and (keyword == "" or dictionary_VM(tag) == "1")
    pattern = _INTEGER if kind == "IS" else _DECIMAL
    if parts == [b""] or (all(map(pattern.fullmatch, parts)) and not several):
        return
    fixed = None if kind == "IS" or several else _with_points(parts, keyword)
    if fixed is not None:
        dataset[tag] = raw._replace(value=fixed, length=len(fixed))
        if keyword in _DECIDING | _LENGTHS:
            found.commas.append(keyword)
        return
    text = value.decode("latin-1").strip("\0 ") if keyword in _COMPARED else None
    _empty(dataset, tag, kind if text is None else "LO", keyword, found, text)


def _empty(dataset: Any, tag: Any, kind: str, keyword: str, found: RepairedNumbers, value: str | None = None) -> None:
    del dataset[tag]
    dataset.add_new(tag, kind, value)
    if keyword in _DECIDING:
        found.bad.append(keyword)


def _with_points(parts: list[bytes], keyword: str) -> bytes | None:
    """The values with decimal points for commas, or None if a comma may be something else."""
    if not all(_COMMA.fullmatch(part) or _DECIMAL.fullmatch(part) for part in parts):
        return None
    if keyword.startswith("Rescale") and any(map(_THOUSANDS.fullmatch, parts)):
        return None
    return b"\\".join(part.replace(b",", b".") for part in parts)

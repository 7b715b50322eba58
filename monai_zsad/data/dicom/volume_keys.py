"""Header fields that tell the volumes of one DICOM series apart: contrasts, echoes, directions and times."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from monai_zsad.data.dicom.headers import frame_groups
from monai_zsad.data.scan import READ_ERRORS

__all__ = ["KEYS", "Key", "Value", "file_values", "frame_values", "volume_tags"]

Value = float | str | tuple[float, ...] | None
"""Of a field: a number, a text, several numbers, or None if it is absent or cannot be read."""


@dataclass(frozen=True)
class Key:
    """A header field whose values may differ between the volumes of a series, but not within one.

    Attributes:
        name: keyword of a classic file, which messages show.
        rule: how sure a difference is. ``"contrast"``: two values are never one volume. ``"series"``: two values are
            two volumes, unless they look like a number of each slice. ``"trigger"``: as ``"series"``, but most values
            differ within a volume. ``"place"``: only slices at one place are told apart.
        group: functional groups of an enhanced file that lead to ``frame``.
        frame: keyword in an enhanced file; empty if it has none.
        tolerance: how much numbers of one volume differ, as a fraction.
        absence: whether the absence of the field is a value, as of a contrast agent.
    """

    name: str
    rule: Literal["contrast", "series", "trigger", "place"]
    group: tuple[str, ...] = ()
    frame: str = ""
    tolerance: float = 0.0
    absence: bool = False


KEYS = (
    # Words of ImageType such as M, PHASE or WATER; the whole ImageType stands last.
    Key("ComplexImageComponent", "contrast", ("MRImageFrameTypeSequence",), "ComplexImageComponent"),
    Key("FrameType", "contrast", ("MRImageFrameTypeSequence",), "FrameType"),
    Key("FrameType", "contrast", ("CTImageFrameTypeSequence",), "FrameType"),
    Key("DiffusionBValue", "contrast", ("MRDiffusionSequence",), "DiffusionBValue", 0.02, absence=True),
    Key("EchoTime", "contrast", ("MREchoSequence",), "EffectiveEchoTime", 0.01),
    Key("ASLContext", "contrast", ("MRArterialSpinLabelingSequence",), "ASLContext"),
    Key("DiffusionDirectionality", "series", ("MRDiffusionSequence",), "DiffusionDirectionality"),
    Key(
        "DiffusionGradientOrientation",
        "series",
        ("MRDiffusionSequence", "DiffusionGradientDirectionSequence"),
        "DiffusionGradientOrientation",
        absence=True,
    ),
    Key("EchoNumbers", "series"),
    Key("InversionTime", "series", ("MRModifierSequence",), "InversionTimes", 0.01),
    Key("FlipAngle", "series", ("MRTimingAndRelatedParametersSequence",), "FlipAngle", 0.01),
    Key("TemporalPositionIdentifier", "series", ("FrameContentSequence",), "TemporalPositionIndex"),
    Key(
        "ContrastBolusAgent",
        "series",
        ("ContrastBolusUsageSequence",),
        "ContrastBolusAgentAdministered",
        absence=True,
    ),
    Key("ReconstructionAlgorithm", "series", ("CTReconstructionSequence",), "ReconstructionAlgorithm"),
    Key("ConvolutionKernel", "series", ("CTReconstructionSequence",), "ConvolutionKernel"),
    Key("TriggerTime", "trigger", ("CardiacSynchronizationSequence",), "NominalCardiacTriggerDelayTime"),
    Key("ImageType", "place"),
    Key("AcquisitionNumber", "place"),
)
"""In the order in which they are tried."""

_COMPONENTS = {
    "M": "magnitude", "MAG": "magnitude", "MAGNITUDE": "magnitude",
    "P": "phase", "PHASE": "phase", "PHASE MAP": "phase",
    "R": "real", "REAL": "real", "I": "imaginary", "IMAGINARY": "imaginary",
}  # fmt: skip
_TISSUES = {
    "W": "water", "WATER": "water", "F": "fat", "FAT": "fat",
    "IP": "in phase", "IN_PHASE": "in phase", "OP": "out of phase", "OPP": "out of phase",
    "OPP_PHASE": "out of phase", "OUT_PHASE": "out of phase",
    "ADC": "ADC", "FA": "FA", "TRACEW": "trace",
}  # fmt: skip
_PHASES = "CardiacNumberOfImages"
_GE_COMPONENTS = ("magnitude", "phase", "real", "imaginary")
# Of each manufacturer: name of the private block, group and element.
_PRIVATE_B = (
    ("SIEMENS MR HEADER", 0x0019, 0x0C),
    ("GEMS_PARM_01", 0x0043, 0x39),
    ("Philips Imaging DD 001", 0x2001, 0x03),
    ("Image Private Header", 0x0065, 0x09),
)
_PRIVATE_DIRECTIONS = (
    ("SIEMENS MR HEADER", 0x0019, (0x0E,)),
    ("GEMS_ACQU_01", 0x0019, (0xBB, 0xBC, 0xBD)),
    ("Philips MR Imaging DD 001", 0x2005, (0xB0, 0xB1, 0xB2)),
)
_GE_COMPONENT = ("GEMS_PARM_01", 0x0043, 0x2F)
# A private block begins where its name stands, mostly at the first place.
_BLOCKS = (0x10, 0x11, 0x12)
# GE adds 1e9 to some b values as a mark.
_GE_MARK, _GE_LARGEST = 100_000, 10_000


@functools.cache
def volume_tags() -> tuple[int, ...]:
    """Tags that :func:`file_values` needs."""
    from pydicom.datadict import tag_for_keyword

    names = [*(key.name for key in KEYS), _PHASES]
    tags = [tag for name in names if (tag := tag_for_keyword(name)) is not None]
    single = [(group, element) for _, group, element in (*_PRIVATE_B, _GE_COMPONENT)]
    several = [(group, element) for _, group, elements in _PRIVATE_DIRECTIONS for element in elements]
    for group, element in {*single, *several}:
        for block in _BLOCKS:
            tags += [(group << 16) | block, (group << 16) | (block << 8) | element]
    return tuple(tags)


def file_values(dataset: Any) -> tuple[Value, ...]:
    """The value of each of :data:`KEYS` in a classic file.

    Example:
        >>> from pydicom import Dataset
        >>> dataset = Dataset()
        >>> dataset.ImageType, dataset.EchoTime = ["ORIGINAL", "PRIMARY", "M", "NORM"], 80
        >>> [value for value in file_values(dataset) if value is not None]
        ['magnitude', 80.0, 'ORIGINAL/PRIMARY/M/NORM']
    """
    return tuple(_SPECIAL.get(key.name, _plain)(dataset, key.name) for key in KEYS)


def frame_values(dataset: Any) -> list[tuple[Value, ...]]:
    """The value of each of :data:`KEYS` for every frame of an enhanced file."""
    groups = {key.group[0]: frame_groups(dataset, key.group[0]) for key in KEYS if key.group}
    count = len(dataset.get("PerFrameFunctionalGroupsSequence") or ())
    return [tuple(_of_frame(key, groups, index) for key in KEYS) for index in range(count)]


def _of_frame(key: Key, groups: dict[str, list[Any]], index: int) -> Value:
    item = groups[key.group[0]][index] if key.group else None
    for name in key.group[1:]:
        item = ((item.get(name) if item is not None else None) or [None])[0]
    value = None if item is None else _plain(item, key.frame)
    return _direction(value) if key.name == "DiffusionGradientOrientation" else value


def _plain(dataset: Any, name: str) -> Value:
    try:
        return _value(dataset.get(name))
    except READ_ERRORS:
        return None


def _value(found: Any) -> Value:
    """A number where it is one, otherwise a text; a list of numbers stays a list."""
    if found is None or found == "":
        return None
    if isinstance(found, bytes):
        return _unpacked(found)
    many = list(found) if isinstance(found, Sequence) and not isinstance(found, str) else [found]
    try:
        numbers = tuple(float(one) for one in many)
    except (TypeError, ValueError):
        return "/".join(str(one).strip().upper() for one in many) or None
    if not numbers or not all(map(math.isfinite, numbers)):
        return None
    return numbers[0] if len(numbers) == 1 else numbers


def _unpacked(raw: bytes) -> Value:
    """A private value of unknown type: digits, or one or three little-endian numbers."""
    text = raw.strip(b" \0")
    if text and all(byte in b"0123456789.-+eE\\" for byte in text):
        return _value(text.decode("ascii").split("\\"))
    kinds = {4: "<f", 8: "<d", 24: "<3d"}
    return _value(struct.unpack(kinds[len(raw)], raw)) if len(raw) in kinds else None


def _private(dataset: Any, creator: str, group: int, element: int) -> Value:
    try:
        # Faster than pydicom's search for the block, and few files have any.
        for block in _BLOCKS:
            name = (group << 16) | block
            if name in dataset and str(dataset[name].value).strip() == creator:
                found = (group << 16) | (block << 8) | element
                return _value(dataset[found].value) if found in dataset else None
    except READ_ERRORS:
        pass
    return None


def _b_value(dataset: Any, name: str) -> Value:
    stated = _plain(dataset, name)
    if stated is not None:
        return stated
    for creator, group, element in _PRIVATE_B:
        value = _private(dataset, creator, group, element)
        number = value[0] if isinstance(value, tuple) else value
        if isinstance(number, float):
            return number % _GE_MARK if group == 0x0043 and number > _GE_LARGEST else number
    return None


def _gradient(dataset: Any, name: str) -> Value:
    stated = _plain(dataset, name)
    for creator, group, elements in _PRIVATE_DIRECTIONS if stated is None else ():
        parts = [_private(dataset, creator, group, element) for element in elements]
        numbers = parts[0] if len(parts) == 1 else tuple(part for part in parts if isinstance(part, float))
        if isinstance(numbers, tuple) and len(numbers) == 3:
            stated = numbers
            break
    return _direction(stated)


def _direction(value: Value) -> Value:
    """No direction is the same as one of length 0."""
    return value if isinstance(value, tuple) and len(value) == 3 and any(value) else None


def _component(dataset: Any, name: str) -> Value:
    """Magnitude, phase, water and so on, from the field of that name, a private field of GE, or words of ImageType."""
    words = [str(word).strip().upper() for word in dataset.get("ImageType") or ()][2:]
    stated = _plain(dataset, name)
    ge = _private(dataset, *_GE_COMPONENT)
    found = {_COMPONENTS[word] for word in words if word in _COMPONENTS}
    if isinstance(stated, str):
        found = {_COMPONENTS.get(stated, stated.lower())}
    elif not found and isinstance(ge, float) and 0 <= ge < len(_GE_COMPONENTS):
        found = {_GE_COMPONENTS[int(ge)]}
    found |= {_TISSUES[word] for word in words if word in _TISSUES}
    return ", ".join(sorted(found)) or None


def _trigger_time(dataset: Any, name: str) -> Value:
    """The time in a heart beat; None in a series of one image per place: there, several slices share a beat."""
    return None if _plain(dataset, _PHASES) == 1 else _plain(dataset, name)


def _nothing(dataset: Any, name: str) -> Value:  # noqa: ARG001
    return None


_SPECIAL = {
    "ComplexImageComponent": _component,
    "FrameType": _nothing,
    "DiffusionBValue": _b_value,
    "DiffusionGradientOrientation": _gradient,
    "TriggerTime": _trigger_time,
}

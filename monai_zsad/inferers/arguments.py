"""Checks of the inferer's arguments. Each error states what is accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from monai_zsad.errors import ConfigurationError
from monai_zsad.flags import parse_flag
from monai_zsad.inferers.planes import PLANES

__all__ = [
    "check",
    "check_arguments",
    "is_count",
    "is_distance",
    "is_number",
    "parse_amp_type",
    "parse_device",
    "parse_flag",
    "parse_planes",
    "parse_window",
]

_AMP_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


_ACCEPTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "batch_size": (lambda value: is_count(value), "a whole number of at least 1"),
    "foreground_threshold": (lambda value: is_number(value), "a finite number"),
    "min_foreground": (lambda value: is_number(value) and 0 <= value <= 1, "within [0, 1]"),
    "fusion": (lambda value: value in ("mean", "max"), '"mean" or "max"'),
    "overlap": (lambda value: is_number(value) and 0 <= value < 1, "at least 0 and below 1"),
    "sw_mode": (lambda value: value in ("gaussian", "constant"), '"gaussian" or "constant"'),
    **{
        name: (lambda value: is_distance(value), "None, or mm above 0")
        for name in ("token_spacing_mm", "slice_spacing_mm", "smooth_slices_mm", "context_mm")
    },
}


def check_arguments(inferer: Any) -> None:
    """Check the arguments of an inferer, which are its attributes.

    Raises:
        ConfigurationError: if a value is not accepted.
    """
    for name, (accepts, accepted) in _ACCEPTED.items():
        check(accepts(getattr(inferer, name)), name, getattr(inferer, name), accepted)
    one_window = inferer.token_spacing_mm is None or inferer.roi_size is None
    check(one_window, "roi_size", inferer.roi_size, "None if token_spacing_mm is set: give one of them")


def check(valid: bool, name: str, value: object, accepted: str) -> None:
    """Raise a ConfigurationError if the value is not valid. It names the argument, the value and what is accepted."""
    if not valid:
        raise ConfigurationError(f"{name}={value!r} cannot be used: it must be {accepted}.")


def is_number(value: object) -> bool:
    """Whether the value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def is_count(value: object) -> bool:
    """Whether the value is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_distance(value: object) -> bool:
    """Whether the value is None or a number above 0 (an optional length in mm)."""
    return value is None or (isinstance(value, (int, float)) and is_number(value) and value > 0)


def parse_planes(planes: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of planes. None if none are set."""
    if planes is None:
        return None
    names = (planes,) if isinstance(planes, str) else tuple(planes) if isinstance(planes, Sequence) else ()
    known = bool(names) and all(isinstance(name, str) and name in PLANES for name in names)
    check(
        known and len(set(names)) == len(names), "planes", planes, f"None, or names from {', '.join(PLANES)}, each once"
    )
    return names


def parse_window(roi_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Rows and columns of a window in pixels. None if it is not set."""
    if roi_size is None:
        return None
    sides = tuple(roi_size) if isinstance(roi_size, Sequence) else (roi_size, roi_size)
    valid = len(sides) == 2 and all(is_count(side) for side in sides)
    check(valid, "roi_size", roi_size, "None, a number of pixels or (rows, columns), at least 1")
    return sides[0], sides[1]


def parse_device(name: str, device: str | torch.device | None) -> torch.device | None:
    """The device of the argument called ``name``."""
    if device is None:
        return None
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigurationError(f'{name}={device!r} is not a device: use None, "cpu", "cuda" or "cuda:0".') from error


def parse_amp_type(amp_dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The type for autocast. None if it is not set."""
    found = _AMP_TYPES.get(amp_dtype, amp_dtype) if isinstance(amp_dtype, str) else amp_dtype
    check(found is None or found in _AMP_TYPES.values(), "amp_dtype", amp_dtype, 'None, "float16" or "bfloat16"')
    return found if isinstance(found, torch.dtype) else None

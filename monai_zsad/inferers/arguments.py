"""Checks of what a user can set wrongly, each with the remedy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from monai_zsad.errors import ConfigurationError
from monai_zsad.flags import parse_flag
from monai_zsad.inferers.planes import PLANES

__all__ = [
    "check",
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


def check(valid: bool, name: str, value: object, accepted: str) -> None:
    """Raise a ConfigurationError that names the argument, its value and what is accepted, unless it is valid."""
    if not valid:
        raise ConfigurationError(f"{name}={value!r} cannot be used: it must be {accepted}.")


def is_number(value: object) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def is_count(value: object) -> bool:
    """Whether it is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_distance(value: object) -> bool:
    """Whether it is None or a number above 0, for optional lengths in mm."""
    return value is None or (isinstance(value, (int, float)) and is_number(value) and value > 0)


def parse_planes(planes: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of planes, each once."""
    if planes is None:
        return None
    names = (planes,) if isinstance(planes, str) else tuple(planes) if isinstance(planes, Sequence) else ()
    known = bool(names) and all(isinstance(name, str) and name in PLANES for name in names)
    check(
        known and len(set(names)) == len(names), "planes", planes, f"None, or names from {', '.join(PLANES)}, each once"
    )
    return names


def parse_window(roi_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Rows and columns of a window in pixels."""
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
    """The type for autocast."""
    found = _AMP_TYPES.get(amp_dtype, amp_dtype) if isinstance(amp_dtype, str) else amp_dtype
    check(found is None or found in _AMP_TYPES.values(), "amp_dtype", amp_dtype, 'None, "float16" or "bfloat16"')
    return found if isinstance(found, torch.dtype) else None

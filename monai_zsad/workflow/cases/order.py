"""In which order the cases of a run come, and how many of them."""

from __future__ import annotations

import os.path
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from monai_zsad.errors import ConfigurationError

__all__ = ["ORDERS", "first_cases", "ordered"]

ORDERS = ("path", "random", "size")
"""As they were found, by chance (the same in every run), or the largest files first, so that no long one comes last."""

_Record = TypeVar("_Record", bound=Mapping[str, Any])


def ordered(records: Sequence[_Record], order: str = "path") -> list[_Record]:
    """Records of :func:`~monai_zsad.data.find_scans` in one of :data:`ORDERS`.

    Raises:
        ConfigurationError: if there is no such order.

    Example:
        >>> ordered([{"case": "anna"}, {"case": "ben"}], "path")[0]["case"]
        'anna'
    """
    if order not in ORDERS:
        raise ConfigurationError(f"order={order!r}: choose {', '.join(ORDERS)}")
    if order == "path":
        return list(records)
    if order == "size":
        return sorted(records, key=lambda record: -_bytes(record["image"]))
    by_case = sorted(records, key=lambda record: str(record["case"]))
    random.Random(0).shuffle(by_case)
    return by_case


def first_cases(records: Sequence[_Record], limit: int | None) -> list[_Record]:
    """The first so many records, all if ``limit`` is None.

    Raises:
        ConfigurationError: if ``limit`` is no whole number of at least 1.
    """
    if limit is None:
        return list(records)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigurationError(f"limit={limit!r} cannot be used: it must be null or a whole number of at least 1")
    return list(records[:limit])


def _bytes(image: str | Sequence[str]) -> int:
    """Size of a scan's files; a missing one counts as empty, and fails later and alone."""
    files = [image] if isinstance(image, str) else image
    return sum(os.path.getsize(file) for file in files if os.path.isfile(file))

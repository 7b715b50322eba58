"""Values as float32: very large, very small, or nearly equal values are scaled, so that statistics do not overflow."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.scan import ReadOptions, Scan

__all__ = ["check_range", "to_float32"]

_SMALLEST, _LARGEST = 2.0**-40, 2.0**36
"""Contrasts between these are kept: squares and sums of squares of float32 values neither overflow nor vanish."""

_LIMIT = 2.0**100
_LEAST_CONTRAST = 2.0**-10
_USUAL_EXPONENT = 10
_SAMPLES = 1 << 18


def to_float32(values: np.ndarray) -> tuple[np.ndarray, list[Repair]]:
    """Values of any type as float32, scaled where float32 cannot be computed with.

    Ordinary values are only converted. If almost all values are larger than 7e10 or smaller than 1e-12, all of them are
    multiplied by a power of two, which is exact. If they differ by less than a thousandth of their size, the lowest is
    subtracted, because float32 would lose their contrast. Single values above 1e30 are limited to it.

    Args:
        values: of any shape and real type.

    Returns:
        The values, a new array, and a warning if they were scaled or limited.

    Example:
        >>> values, found = to_float32(np.array([0.0, 1e200, 4e200]))
        >>> values[2] / values[1], [repair.code for repair in found]
        (np.float32(4.0), ['values-rescaled'])
    """
    shift, exponent = _plan(values)
    if not shift and not exponent:
        return _limited(values, [])
    real: np.ndarray = np.asarray(values, dtype=np.float64 if values.dtype != np.float32 else np.float32)
    shifted = real - shift
    done = [f"{shift:g} was subtracted"] if shift else []
    done += [f"they were multiplied by 2 to the power of {exponent}"] if exponent else []
    with np.errstate(over="ignore", under="ignore"):
        return _limited(np.ldexp(shifted, exponent), [f"its values were brought into a usual range: {', '.join(done)}"])


def check_range(scan: Scan, path: Path, options: ReadOptions) -> list[Repair]:  # noqa: ARG001
    """Scale extreme values of a scan as :func:`to_float32` does.

    Raises:
        InputError: if the scan is a CT, because HU must not be scaled.
    """
    shift, exponent = _plan(scan.values)
    if not shift and not exponent:
        return []
    if scan.modality.upper() == "CT":
        low, high = (float(value) for value in (scan.values.min(), scan.values.max()))
        raise refusal(path, "bad-rescale", f"is a CT, but its values run from {low:g} to {high:g}")
    scan.values, repairs = to_float32(scan.values)
    return repairs


def _plan(values: np.ndarray) -> tuple[float, int]:
    """What is subtracted, and the exponent of the power of two with which the rest is multiplied; mostly 0 and 0."""
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        return 0.0, 0
    flat = values.ravel(order="K")
    sample = flat[:: max(1, flat.size // _SAMPLES)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    low, high = np.percentile(sample, (0.5, 99.5)) if sample.size else (0.0, 0.0)
    if low == high:
        finite = flat[np.isfinite(flat)].astype(np.float64)
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    largest = float(max(abs(low), abs(high)))
    # Halves, because the difference of the largest and the lowest number of 64 bits is infinite.
    contrast = 2 * (float(high) / 2 - float(low) / 2)
    shift = 0.0
    if 0 < contrast < _LEAST_CONTRAST * largest:
        shift, largest = float(np.min(flat[np.isfinite(flat)])), contrast
    usual = largest == 0 or _SMALLEST <= largest <= _LARGEST
    return shift, 0 if usual else _USUAL_EXPONENT - math.frexp(largest)[1]


def _limited(values: np.ndarray, done: list[str]) -> tuple[np.ndarray, list[Repair]]:
    if values.dtype.kind == "f" and values.size and np.fmax.reduce(np.abs(values.ravel(order="K"))) > _LIMIT:
        beyond = np.isfinite(values) & (np.abs(values) > _LIMIT)
        if count := int(np.count_nonzero(beyond)):
            values = np.where(beyond, np.copysign(_LIMIT, values), values)
            done = [*done, f"{count} values beyond {_LIMIT:.1g} were limited to it"]
    return values.astype(np.float32), [Repair("values-rescaled", "; ".join(done))] if done else []

"""Values that float32 can hardly hold, or with which statistics in float32 overflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.data.odd_inputs.catalogue import AFFINE, Odd, kind, volume_truth
from tests.data.odd_inputs.nifti import with_values
from tests.data.samples import CT, write_series

PLAIN = np.random.default_rng(5).integers(0, 1000, (9, 8, 7)).astype("f8")
PLAIN[0, 0, 0], PLAIN[0, 0, 1] = 0, 999


def scaled_truth(exponent: int, dtype: str = "f8") -> np.ndarray:
    """What the reader makes of PLAIN times a power of two: its highest percentile lies between 512 and 1024."""
    values = PLAIN.astype(dtype)
    highest = np.percentile(values, 99.5)
    return np.ldexp(values, 10 - np.frexp(highest)[1])


def _add(name: str, values: np.ndarray, truth: np.ndarray, verdict: str = "repaired values-rescaled") -> None:
    def build(folder: Path) -> Odd:
        return Odd(with_values(folder, values), [volume_truth(truth, AFFINE)])

    build.__name__ = name
    kind(verdict)(build)


for _name, _exponent, _dtype in (
    ("values_of_1e30", 100, "f8"),
    ("values_of_1e30_in_32_bits", 100, "f4"),
    ("values_of_1e13", 34, "f4"),
    ("values_of_1e300", 990, "f8"),
    ("values_of_1e_minus_30", -110, "f4"),
    ("values_of_1e_minus_300", -1000, "f8"),
):
    _add(_name, np.ldexp(PLAIN, _exponent).astype(_dtype), scaled_truth(_exponent))

_add("small_contrast_on_a_billion", PLAIN / 8 + 1e9, PLAIN / 8)
_add("small_contrast_on_a_billion_of_integers", (PLAIN + 1e9).astype("i4"), PLAIN)
_add("small_contrast_on_a_huge_offset", np.ldexp(PLAIN + 2.0**40, 60), np.ldexp(PLAIN, 0))
_add("values_of_1e9", PLAIN * 1e6, PLAIN * 1e6, "ok")
_add("values_of_1e_minus_9", PLAIN * 1e-12, PLAIN * 1e-12, "ok")
_ONE = PLAIN.copy()
_ONE[4, 4, 4] = 1e300
_add("one_value_of_1e300", _ONE, np.where(_ONE > 1e30, 2.0**100, _ONE))


@kind("refused bad-rescale")
def ct_of_huge_values(folder: Path) -> Odd:
    return Odd(write_series(folder / "s", sop_class=CT, modality="CT", RescaleSlope="1e15"))

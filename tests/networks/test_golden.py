"""Every network against what its authors' program returned (see ``tests/parity.py``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import shared_folder
from tests.parity import bound_of, compare

FILES = sorted(path.name for path in (shared_folder() / "golden").glob("*.npz"))


@pytest.mark.parametrize("name", FILES or ["none"])
def test_golden(shared, name: str) -> None:
    errors = compare(shared / "golden" / name)
    assert errors
    bounds = {array: bound_of(array) + uncertainty(shared / "golden" / name, array) for array in errors}
    assert {array: error for array, error in errors.items() if error > bounds[array]} == {}


def uncertainty(path: Path, array: str) -> float:
    """What a golden AA-CLIP map does not know itself: one float32 rounding of each level's ``100 f . t``, relative.

    The release subtracts two such similarities, of 20 to 40, and keeps the rounding of both. In
    ``aaclip_mini_industrial_relu`` the difference is so small that exact arithmetic on the very features in the file
    misses the map in the file by 3.1e-5. Elsewhere this adds next to nothing, and to other arrays nothing.
    """
    if array not in ("amap", "layer_maps") or not path.name.startswith("aaclip"):
        return 0.0
    with np.load(path) as golden:
        largest = np.abs(100 * golden["seg"] @ golden["text"]).max(axis=(1, 2, 3))
        rounding = np.finfo(np.float32).eps * (largest.sum() if array == "amap" else largest.max())
        return float(rounding / np.abs(golden[array]).max())

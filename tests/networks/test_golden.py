"""Every network against what its authors' program returned (see ``tests/parity.py``)."""

from __future__ import annotations

import pytest

from tests.conftest import shared_folder
from tests.parity import bound_of, compare

FILES = sorted(path.name for path in (shared_folder() / "golden").glob("*.npz"))


@pytest.mark.parametrize("name", FILES or ["none"])
def test_golden(shared, name: str) -> None:
    errors = compare(shared / "golden" / name)
    assert errors
    assert {array: error for array, error in errors.items() if error > bound_of(array)} == {}

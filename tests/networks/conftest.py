"""Which parameters of a shared fixture make a test slow: a mark of the test would hold for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

# The export unrolls each of the 22 views.
SLOW = ("test_contract.py::test_onnx[anoclip_views]",)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.endswith(SLOW):
            item.add_marker(pytest.mark.slow)

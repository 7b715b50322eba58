"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.browser import open_page as open_page

# Before PyTorch is imported: each of several workers has one core, and so do the programs that its tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The time of an example depends on the machine.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

ROOT = Path(__file__).resolve().parents[1]
# Parameters of a shared fixture that make a test slow: a mark of the test would hold for all of them.
SLOW = (
    # The export unrolls each of the 22 views.
    "test_contract.py::test_onnx[anoclip_views]",
    # Two towers.
    "test_contract.py::test_onnx[crane_plus_logits]",
    "test_exports.py::test_onnx_export[crane_plus]",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.endswith(SLOW):
            item.add_marker(pytest.mark.slow)


def shared_folder() -> Path:
    """Folder of development data beside the checkout; ``MONAI_ZSAD_SHARED`` names another folder."""
    return Path(os.environ.get("MONAI_ZSAD_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests have a cache of weights and text features of their own, not that of the user."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_ZSAD_WEIGHTS", str(folder / "weights"))
        yield
    # pytest keeps the folders of the last runs; exported networks are large.
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def interpreter_as_it_was() -> Iterator[None]:
    """Undo the changes that a bundle's run makes in the interpreter: its exception hook and its search path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(sys, "path", list(sys.path))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data (real scans, golden values, checkpoints); without it the test is skipped."""
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"development data not found at {folder}: set MONAI_ZSAD_SHARED to its folder")
    return folder

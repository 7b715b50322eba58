"""Fixtures that every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine, not of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

ROOT = Path(__file__).resolve().parents[1]


def shared_folder() -> Path:
    """Folder of development data beside the checkout; ``MONAI_ZSAD_SHARED`` names another place."""
    return Path(os.environ.get("MONAI_ZSAD_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Weights and text features of the tests stay out of the user's cache, and none of the user's come in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_ZSAD_WEIGHTS", str(tmp_path_factory.mktemp("cache") / "weights"))
        yield


@pytest.fixture(scope="module", autouse=True)
def interpreter_as_it_was() -> Iterator[None]:
    """A bundle's run leaves its hook and search path in the interpreter; a module's own fixtures run bundles too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(sys, "path", list(sys.path))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data (real scans, golden values, checkpoints); the test skips where it is absent."""
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"development data not found at {folder}: set MONAI_ZSAD_SHARED to its folder")
    return folder

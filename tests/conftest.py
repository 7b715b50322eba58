"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_folder() -> Path:
    """Folder of development data beside the checkout; ``MONAI_ZSAD_SHARED`` names another place."""
    return Path(os.environ.get("MONAI_ZSAD_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data (real scans, golden values, checkpoints); the test skips where it is absent."""
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"development data not found at {folder}: set MONAI_ZSAD_SHARED to its folder")
    return folder

"""OHIF's released handlers of DICOM results, run by Node.js: the fixture ``ohif``."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import filelock
import pytest

Reader = Callable[[Path, Mapping[str, Any]], dict[str, Any]]

# OHIF 3.13 and the release of Cornerstone3D that it names.
PACKAGES = (
    "@ohif/extension-cornerstone-dicom-seg@~3.13.2",
    "@ohif/extension-cornerstone-dicom-sr@~3.13.2",
    *(f"@cornerstonejs/{name}@~5.6.8" for name in ("adapters", "core", "metadata", "tools", "utils")),
)
OLDEST = 20
_INSTALL = ("install", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", "--loglevel=error")


@pytest.fixture(scope="session")
def ohif() -> Reader:
    """``ohif(folder, study)`` writes what a viewer gets to ``folder`` and returns what OHIF reads.

    The npm packages are installed once into the user's cache. Without Node.js, npm or a registry, tests are skipped.
    """
    node, modules = shutil.which("node"), _node_modules()
    assert node is not None

    def read(folder: Path, study: Mapping[str, Any]) -> dict[str, Any]:
        shutil.copy(Path(__file__).with_name("read.mjs"), folder)
        (folder / "node_modules").symlink_to(modules)
        (folder / "study.json").write_text(json.dumps(study))
        command = [node, str(folder / "read.mjs"), str(folder / "study.json")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return read


def _node_modules() -> Path:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip(f"Node.js or npm is absent: install Node.js {OLDEST} or later")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST:
        pytest.skip(f"Node.js is {version}: OHIF's packages need {OLDEST} or later")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / f"monai-zsad-tests-ohif-{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    complete = folder / "complete"
    with filelock.FileLock(folder / "lock"):
        if not complete.is_file():
            command = [npm, *_INSTALL, "--prefix", str(folder), *PACKAGES]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            except subprocess.TimeoutExpired:
                pytest.skip("npm did not install OHIF's packages within 300 s")
            if done.returncode:
                pytest.skip(f"npm could not install OHIF's packages: {done.stderr.strip()[-300:]}")
            complete.touch()
    return folder / "node_modules"

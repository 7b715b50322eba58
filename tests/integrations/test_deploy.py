"""The package for MONAI Deploy: its layout, and a run with the SDK where it is installed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import yaml
from packaging.requirements import Requirement

from monai_zsad import Screener, __version__, screen
from monai_zsad.errors import ConfigurationError
from monai_zsad.integrations import deploy
from tests.data.samples import write_series
from tests.test_installation import project

FOLDER = Path(deploy.__path__[0])
with_sdk = pytest.mark.skipif(find_spec("holoscan") is None, reason="MONAI Deploy's SDK is not installed")


def content() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "app.yaml").read_text(encoding="utf-8"))


def test_the_packager_finds_what_it_needs() -> None:
    application = content()["application"]
    assert application["title"]
    assert application["version"] == __version__
    assert content()["resources"].keys() == {"cpu", "gpu", "memory"}
    assert (FOLDER / "__main__.py").is_file()


def test_the_options_are_known() -> None:
    options = content()["screen"]
    assert {"seg", "sr"} <= set(options["dicom"])
    Screener(**options)
    with pytest.raises(ConfigurationError):
        Screener(**options | {"dicoms": ["seg"]})


def test_the_container_gets_this_package_and_the_sdk_that_was_tried() -> None:
    (line,) = (FOLDER / "requirements.txt").read_text(encoding="utf-8").splitlines()
    needed = Requirement(line)
    assert needed.name == project()["name"]
    assert str(needed.url).startswith(project()["urls"]["Source"])
    (extra,) = needed.extras
    pins = {Requirement(text).name for text in project()["optional-dependencies"][extra]}
    assert pins == {"monai-deploy-app-sdk", "holoscan-cli", "holoscan-cu13"}


@pytest.mark.skipif(find_spec("holoscan") is not None, reason="MONAI Deploy's SDK is installed")
def test_without_the_sdk_the_remedy_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"pip install 'monai-zsad\[deploy\]'"):
        importlib.import_module("monai_zsad.integrations.deploy.app")


@with_sdk
def test_the_packager_reads_the_layout() -> None:
    reader = importlib.import_module("holoscan_cli.packager.config_reader").ApplicationConfiguration()
    reader.read(FOLDER / "app.yaml")
    parameters = importlib.import_module("holoscan_cli.packager.parameters").PackageBuildParameters()
    parameters.application = FOLDER
    assert parameters.application_type.name == "PythonModule"
    assert parameters.requirements_file_path == FOLDER / "requirements.txt"
    assert reader.populate_app_manifest(parameters).version == __version__


def run(scans: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """The application as the container runs it."""
    variables = {
        "HOLOSCAN_INPUT_PATH": str(scans),
        "HOLOSCAN_OUTPUT_PATH": str(output),
        "HOLOSCAN_CONFIG_PATH": str(FOLDER / "app.yaml"),
    }
    return subprocess.run(
        [sys.executable, FOLDER], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@with_sdk
def test_the_results_are_those_of_screen(shared: Path, tmp_path: Path) -> None:
    scans = shared / "data" / "dicom_vs_seg_001"
    (tmp_path / "results").mkdir()
    done = run(scans, tmp_path / "results")
    assert done.returncode == 0, done.stdout + done.stderr
    (case,) = (path.parent for path in (tmp_path / "results").glob("*/manifest.json"))
    expected = screen(scans, tmp_path / "screened", dicom=["seg", "pm", "sr"], progress=False).files
    assert {file.name for file in expected.values()} <= {file.name for file in case.iterdir()}
    for kind in ("anomaly_map", "candidates"):
        ours, theirs = (nibabel.load(file) for file in (case / expected[kind].name, expected[kind]))
        np.testing.assert_array_equal(ours.get_fdata(), theirs.get_fdata())
        np.testing.assert_array_equal(ours.affine, theirs.affine)
    for kind, values in (("dicom_segmentation", "PixelData"), ("dicom_parametric_map", "FloatPixelData")):
        ours, theirs = (pydicom.dcmread(file) for file in (case / expected[kind].name, expected[kind]))
        assert ours[values].value == theirs[values].value
    assert "dicom_report" in expected


@with_sdk
def test_a_refused_series_ends_the_application_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    for number, file in enumerate(write_series(tmp_path / "scans", slices=8)):
        if number == 3:
            file.unlink()
    done = run(tmp_path / "scans", tmp_path / "results")
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "slices are missing" in done.stderr.splitlines()[-1]

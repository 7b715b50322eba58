"""``screen --runtime``: an exported network in place of the one in PyTorch, everything else equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from monai_zsad.errors import ConfigurationError, InputError
from tests.bundles.runs import ROOT, run_small
from tests.cli.test_screen import invoke, read
from tests.data.samples import write_nifti

for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(package)

# Largest difference of maps and scores in float32 from PyTorch's; measured 6e-6.
BOUND = 1e-4
SMALL = ("--set", "image_size=64", "--no-progress", "--set", "batch_size=4", "--set", "report=false")


def screen(scans: Path, output: Path, *options: str) -> None:
    result = invoke("screen", str(scans), "-o", str(output), *SMALL, *options)
    if result.exception:
        raise result.exception


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven slices, so that a last batch of four is smaller."""
    folder = tmp_path_factory.mktemp("scans")
    write_nifti(folder / "anna.nii.gz", (24, 20, 7), seed=1)
    return folder


@pytest.fixture(scope="module")
def by_torch(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("torch")
    screen(scans, output)
    return output


def assert_same(found: Path, expected: Path, runtime: str) -> None:
    maps = [nibabel.load(folder / "anna" / "anomaly.nii.gz") for folder in (found, expected)]
    first, second = (image.get_fdata() for image in maps)
    assert first.max() > 0
    np.testing.assert_allclose(first, second, atol=BOUND, rtol=0)
    scores = [read(folder, "anna", "scores") for folder in (found, expected)]
    assert scores[0]["volume_score"] == pytest.approx(scores[1]["volume_score"], abs=BOUND)
    assert [record["model"]["runtime"] for record in scores] == [runtime, "torch"]
    assert read(found, "anna", "findings")["model"]["runtime"] == runtime


@pytest.mark.parametrize("runtime", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_the_included_model(scans: Path, by_torch: Path, tmp_path: Path, runtime: str) -> None:
    screen(scans, tmp_path / "out", "--runtime", runtime)
    assert_same(tmp_path / "out", by_torch, runtime)
    before = (tmp_path / "out" / "anna" / "manifest.json").read_bytes()
    # The runtime is part of what a resumed run must have the same.
    screen(scans, tmp_path / "out", "--runtime", runtime, "--resume")
    assert (tmp_path / "out" / "anna" / "manifest.json").read_bytes() == before
    result = invoke("screen", str(scans), "-o", str(tmp_path / "out"), *SMALL, "--resume")
    assert "made with another model" in str(result.exception)


def test_a_small_crane(scans: Path, tmp_path: Path) -> None:
    for runtime in ("torch", "auto"):
        run_small(ROOT / "crane", scans, tmp_path / runtime, runtime=runtime, batch_size=4, report=False)
    assert_same(tmp_path / "auto", tmp_path / "torch", "openvino")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--runtime", "tensorrt"], ConfigurationError, "runtime='tensorrt'"),
        (["--runtime", "onnx", "--device", "cuda"], ConfigurationError, "add --device cpu"),
        (["--runtime", "onnx", "--set", "amp=true"], ConfigurationError, "amp=true"),
        (["--set", "runtime_file=a.onnx"], ConfigurationError, "onnx or openvino"),
        (["--runtime", "onnx", "--set", "runtime_file=a.onnx"], InputError, "a.onnx"),
    ],
)
def test_what_cannot_be_combined(scans: Path, tmp_path: Path, options: list[str], error: Any, message: str) -> None:
    result = invoke("screen", str(scans), "-o", str(tmp_path / "out"), *SMALL, *options)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)

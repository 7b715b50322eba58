"""A bundle as MONAI Label runs it: it reads only ``inference.yaml`` and does not run ``initialize``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from monai_zsad.workflow.steps import without_writers
from tests.bundles.runs import BUNDLES, config_file, parser_of, run_small, small
from tests.data.samples import write_nifti


@pytest.fixture(scope="module", params=BUNDLES, ids=lambda folder: folder.name)
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle whose models folder holds a plain state dict."""
    folder = tmp_path_factory.mktemp("bundles") / request.param.name
    shutil.copytree(request.param / "configs", folder / "configs")
    network = parser_of(folder, **small(folder)).get_parsed_content("network_def")
    network.load_weights(**dict.fromkeys(parser_of(folder)["released_weights"], "seed:0"))
    (folder / "models").mkdir()
    torch.save(network.portable_state_dict(), folder / "models" / "model.pt")
    return folder


def label_run(bundle: Path, data: dict[str, Any], *, writers: bool) -> dict[str, Any]:
    """The steps of MONAI Label's inference task, in its order, with this bundle's ids."""
    parser = ConfigParser()
    parser.read_config(config_file(bundle))
    parser.config.update({"bundle_root": str(bundle), "progress": False, **small(bundle)})
    network = parser.get_parsed_content("network_def", instantiate=True)
    state = torch.load(bundle / "models" / "model.pt", map_location="cpu", weights_only=True)
    found = network.load_state_dict(state, strict=False)
    assert not found.missing_keys
    assert not found.unexpected_keys
    network.eval()
    for transform in parser.get_parsed_content("preprocessing", instantiate=True).transforms:
        data = transform(data)
    with torch.no_grad():
        pred = parser.get_parsed_content("inferer", instantiate=True)(data["image"][None], network)
    data["pred"] = pred[0]
    postprocessing = parser.get_parsed_content("postprocessing", instantiate=True)
    for transform in postprocessing.transforms if writers else without_writers(postprocessing):
        data = transform(data)
    return data


@pytest.fixture(autouse=True)
def _interpreter_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("writers", [True, False])
def test_the_map_is_that_of_bundle_run(installed: Path, tmp_path: Path, writers: bool) -> None:
    scan = tmp_path / "scans" / "anna.nii.gz"
    write_nifti(scan, shape=(20, 24, 6))
    run_small(installed, scan, tmp_path / "out", device="cpu")  # where `label_run` computes
    expected = nibabel.load(tmp_path / "out" / "anna" / "anomaly.nii.gz")

    shutil.rmtree(installed / "eval", ignore_errors=True)
    # Only the writers need the name of a case; MONAI Label hands over the image and saves by itself.
    data = label_run(installed, {"image": str(scan)} | ({"case": "anna"} if writers else {}), writers=writers)
    pred = data["pred"]
    assert pred.shape == (1, *expected.shape)
    assert torch.isfinite(pred).all()
    np.testing.assert_allclose(pred.affine.numpy(), expected.affine, atol=1e-6)
    np.testing.assert_allclose(pred[0].numpy(), expected.get_fdata(), atol=1e-6)
    assert 0 < data["volume_score"] < 1
    assert (installed / "eval" / "anna" / "anomaly.nii.gz").is_file() == writers


def test_a_run_takes_the_models_folder_before_the_released_weights(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONAI_ZSAD_OFFLINE", "1")
    write_nifti(tmp_path / "scans" / "anna.nii.gz")
    unnamed = dict.fromkeys((f"weights#{part}" for part in parser_of(installed)["released_weights"]), None)
    maps = []
    for name, options in (("seeded", {}), ("model", unnamed)):
        run_small(installed, tmp_path / "scans", tmp_path / name, **options)
        maps.append(nibabel.load(tmp_path / name / "anna" / "anomaly.nii.gz").get_fdata())
    np.testing.assert_array_equal(*maps)

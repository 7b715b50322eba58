"""Requests through the included model, without MONAI Label."""

from __future__ import annotations

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import itk
import monai.bundle
import nibabel
import numpy as np
import pytest

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.integrations.monailabel.screener import screen_image, write_volume
from monai_zsad.integrations.monailabel.served import ServedBundle, served_bundles
from tests.bundles.runs import ROOT, config_file
from tests.data.samples import write_nifti, write_series

TINY = ROOT / "tiny_screening"
# So that a random scan has candidates.
LOW: dict[str, Any] = {"candidate_threshold": 0.02, "min_volume_mm3": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The included bundle with smaller slices."""
    own = tmp_path_factory.mktemp("bundles") / TINY.name
    shutil.copytree(TINY, own, ignore=shutil.ignore_patterns("eval", "trained", "docs"))
    config = own / "configs" / "inference.yaml"
    text, count = re.subn(r"^image_size: \d+", "image_size: 64", config.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count == 1
    config.write_text(text, encoding="utf-8")
    return own


@pytest.fixture(scope="module")
def bundle(folder: Path) -> ServedBundle:
    return ServedBundle(folder)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("scans") / "anna.nii.gz"
    write_nifti(file, shape=(20, 24, 4))
    return file


def test_the_map_is_that_of_bundle_run(bundle: ServedBundle, folder: Path, scan: Path, tmp_path: Path) -> None:
    monai.bundle.run(
        config_file=config_file(folder),
        logging_file=False,
        bundle_root=str(folder),
        dataset_dir=str(scan),
        output_dir=str(tmp_path),
        progress=False,
    )
    expected = nibabel.load(tmp_path / "anna" / "anomaly.nii.gz")
    screened = screen_image(bundle, scan)
    np.testing.assert_allclose(screened.heat_map, expected.get_fdata(), atol=1e-6)
    np.testing.assert_allclose(screened.affine, expected.affine, atol=1e-6)
    findings = json.loads((tmp_path / "anna" / "findings.json").read_text())
    assert screened.params["volume_score"] == pytest.approx(findings["volume_score"])
    assert len(screened.params["candidates"]) == len(findings["candidates"])


def test_a_request_leaves_nothing_behind(bundle: ServedBundle, scan: Path) -> None:
    before = screen_image(bundle, scan, LOW)
    other = screen_image(bundle, scan, {**LOW, "anatomy": "brain", "plane": "coronal"})
    after = screen_image(bundle, scan, LOW)
    assert before.params["candidates"]
    assert json.dumps(before.params["candidates"]) == json.dumps(after.params["candidates"])
    np.testing.assert_array_equal(before.heat_map, after.heat_map)
    assert not np.array_equal(other.heat_map, before.heat_map)
    json.dumps(before.params, allow_nan=False)


def test_threads_agree_with_one_alone(bundle: ServedBundle, scan: Path) -> None:
    requests = [LOW, {**LOW, "anatomy": "liver"}, {**LOW, "plane": "sagittal"}, LOW]
    alone = [screen_image(bundle, scan, request) for request in requests]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda request: screen_image(bundle, scan, request), requests))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.heat_map, other.heat_map)
        assert one.params["candidates"] == other.params["candidates"]


def test_other_prompts_share_the_weights(bundle: ServedBundle, scan: Path) -> None:
    screen_image(bundle, scan, {"anatomy": "brain"})
    screen_image(bundle, scan, {"anatomy": "liver"})
    *_, first, second = bundle._networks
    assert first is not second
    assert next(first.parameters()) is next(second.parameters())
    assert first.text_anchors is not second.text_anchors


def test_a_folder_holds_one_series(bundle: ServedBundle, tmp_path: Path) -> None:
    write_series(tmp_path / "one")
    screened = screen_image(bundle, tmp_path / "one")
    assert screened.params["scan"]["modality"]
    write_series(tmp_path / "two")
    with pytest.raises(InputError):
        screen_image(bundle, tmp_path)


def test_bundles_of_a_folder_are_served_by_name(tmp_path: Path) -> None:
    shutil.copytree(TINY, tmp_path / "mine")
    assert list(served_bundles(tmp_path)) == ["mine"]
    assert list(served_bundles(tmp_path / "mine")) == ["mine"]
    mine = served_bundles(tmp_path)["mine"]
    assert mine.has_weights()
    before = mine.fingerprint()
    (tmp_path / "mine" / "models" / "model.pt").unlink()
    assert not mine.has_weights()
    assert mine.fingerprint() != before
    with pytest.raises(ConfigurationError, match=r"inference\.yaml"):
        served_bundles(tmp_path / "mine" / "configs")


@pytest.mark.parametrize("extension", [".nii.gz", ".nii", ".nrrd"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 1), (1, 4, 5)])
def test_volumes_are_read_as_they_were_written(tmp_path: Path, extension: str, shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    affine = np.array([[0, -2, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]], float)
    file = write_volume(values, affine, tmp_path / f"map{extension}", compress=True)
    if extension == ".nrrd":
        image = itk.imread(str(file))
        np.testing.assert_array_equal(itk.array_from_image(image).T, values)
        np.testing.assert_allclose(image.GetOrigin(), [-5, 7, 11])
        matrix = itk.array_from_matrix(image.GetDirection()) * np.asarray(image.GetSpacing())
        np.testing.assert_allclose(np.diag([-1, -1, 1]) @ matrix, affine[:3, :3])
    else:
        loaded = nibabel.load(file)
        assert loaded.shape == shape
        np.testing.assert_array_equal(loaded.get_fdata(dtype=np.float32), values)
        np.testing.assert_allclose(loaded.affine, affine)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\.nii\.gz"):
        write_volume(np.zeros((2, 2, 2)), np.eye(4), tmp_path / "map.mha")

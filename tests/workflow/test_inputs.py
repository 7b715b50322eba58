"""Volumes in memory become files with the same values and the same place in space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.python.inputs import as_path

AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])
VALUES = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
LPS = np.diag([-1.0, -1, 1, 1]) @ AFFINE


@pytest.mark.parametrize(
    ("scan", "affine"),
    [
        (VALUES, AFFINE),
        (VALUES.astype(">f8"), AFFINE.tolist()),
        (torch.from_numpy(VALUES)[None].requires_grad_(), torch.from_numpy(AFFINE)),
        (torch.from_numpy(VALUES), AFFINE),
        (MetaTensor(VALUES[None], affine=AFFINE), None),
        (MetaTensor(VALUES[None], affine=LPS, meta={"space": "LPS"}), None),
        (nibabel.Nifti1Image(VALUES, AFFINE), None),
        (nibabel.MGHImage(VALUES, AFFINE), None),
    ],
)
def test_values_and_affine_stay(scan: Any, affine: Any):
    path, folder = as_path(scan, affine)
    image = nibabel.load(path)
    assert Path(path).name == "scan.nii"
    np.testing.assert_array_equal(np.asarray(image.dataobj), VALUES)
    np.testing.assert_allclose(image.affine, AFFINE)
    assert image.header.get_xyzt_units()[0] == "mm"
    del folder
    assert not Path(path).parent.exists()


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64, np.float16, torch.bfloat16])
def test_every_type_of_numbers_keeps_its_values(dtype: Any):
    values: Any = np.arange(24).reshape(2, 3, 4) % 2
    values = torch.from_numpy(values).to(dtype) if isinstance(dtype, torch.dtype) else values.astype(dtype)
    path, _folder = as_path(values, AFFINE)
    np.testing.assert_array_equal(nibabel.load(path).get_fdata(), np.arange(24).reshape(2, 3, 4) % 2)


def test_a_list_holds_paths_and_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    nibabel.Nifti1Image(VALUES, AFFINE).to_filename(tmp_path / "ben.nii.gz")
    path, _folder = as_path(["anna.nii.gz", MetaTensor(VALUES[None], affine=AFFINE), nibabel.load("ben.nii.gz")])
    entries = [Path(entry["image"]) for entry in json.loads(Path(path).read_text())]
    assert entries[0] == tmp_path / "anna.nii.gz"
    assert [entry.name for entry in entries[1:]] == ["scan.nii", "ben.nii"]
    for entry in entries[1:]:
        np.testing.assert_array_equal(nibabel.load(entry).get_fdata(), VALUES)


@pytest.mark.parametrize(
    ("scan", "affine", "name", "message"),
    [
        (VALUES, None, None, "affine is missing.*give affine="),
        (torch.zeros(1, 4, 4, 4), None, None, "affine is missing"),
        ([VALUES], None, None, "affine is missing"),
        (VALUES, np.eye(3), None, r"shape \(3, 3\)"),
        (VALUES, "skew", None, "no matrix"),
        (VALUES, AFFINE, "../anna", "cannot name a folder"),
        (np.zeros((4, 4)), AFFINE, None, r"give \(X, Y, Z\)"),
        (torch.zeros(3, 4, 4, 4), AFFINE, None, r"give \(1, X, Y, Z\)"),
        (VALUES.astype(complex), AFFINE, None, "integers or floats"),
        ("anna.nii.gz", AFFINE, None, "affine and name are for arrays"),
        (MetaTensor(VALUES[None]), AFFINE, None, "MetaTensor has its own"),
        (nibabel.Nifti1Image(VALUES, AFFINE), AFFINE, None, "nibabel has its own"),
        (7, None, None, "int cannot be screened"),
        ([], None, None, "list of scans is empty"),
    ],
)
def test_what_is_no_scan_is_said(scan: Any, affine: Any, name: str | None, message: str):
    with pytest.raises(ConfigurationError, match=message):
        as_path(scan, affine, name)

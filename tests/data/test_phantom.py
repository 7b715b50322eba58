from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_zsad.data import find_scans, phantom_head, write_sample_scan

SMALL = ((64, 64, 14), (3.6, 3.6, 12.0))


def test_same_seed_same_head_and_other_seed_other_head():
    first, again, other = phantom_head(*SMALL), phantom_head(*SMALL), phantom_head(*SMALL, seed=1)
    np.testing.assert_array_equal(first.image, again.image)
    assert first.center_mm == again.center_mm
    assert np.corrcoef(first.image.ravel(), other.image.ravel())[0, 1] < 0.98
    assert first.center_mm != other.center_mm


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000))
def test_lesion_is_where_it_is_said_to_be_and_bright(seed):
    head = phantom_head((80, 90, 40), (2.5, 2.5, 4.5), seed=seed)
    assert head.radius_mm is not None
    voxels = np.argwhere(head.lesion)
    assert len(voxels) > 10
    positions = voxels @ head.affine[:3, :3].T + head.affine[:3, 3]
    assert np.linalg.norm(positions - head.center_mm, axis=1).max() <= head.radius_mm
    volume = len(voxels) * 2.5 * 2.5 * 4.5
    assert volume == pytest.approx(4 / 3 * np.pi * head.radius_mm**3, rel=0.25)
    brain = head.image[(head.lesion == 0) & (head.image > 300)]
    assert np.median(head.image[head.lesion > 0]) > np.percentile(brain, 97)


def test_without_lesion_only_the_lesion_differs():
    with_lesion, without = phantom_head(*SMALL, seed=3), phantom_head(*SMALL, seed=3, lesion=False)
    assert with_lesion.radius_mm is not None
    assert not without.lesion.any()
    assert without.center_mm is None
    positions = np.argwhere(with_lesion.image != without.image) @ np.diag(SMALL[1]) + with_lesion.affine[:3, 3]
    assert np.linalg.norm(positions - with_lesion.center_mm, axis=1).max() < with_lesion.radius_mm + 26


def test_sample_files(tmp_path):
    path = write_sample_scan(tmp_path / "sample", seed=0)
    scan = nibabel.load(path)
    mask = nibabel.load(path.with_name("sample_flair_lesion.nii.gz"))
    truth = json.loads(path.with_name("sample_flair.json").read_text())
    assert scan.shape == mask.shape == (256, 256, 40)
    np.testing.assert_allclose(scan.affine, mask.affine)
    assert nibabel.aff2axcodes(scan.affine) == ("R", "A", "S")
    center = np.argwhere(mask.get_fdata()).mean(axis=0) @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    np.testing.assert_allclose(center, truth["lesion_center_ras_mm"], atol=1.0)
    assert find_scans(path)[0]["case"] == "sample_flair"

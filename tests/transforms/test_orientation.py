from __future__ import annotations

import itertools
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import SpatialCrop
from scipy.spatial.transform import Rotation

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.transforms import DISPLAY_AXCODES, UprightOrientation, UprightOrientationd, acquisition_plane

SIGNED_PERMUTATIONS = [
    np.eye(3)[:, list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]


def volume(
    matrix: np.ndarray, shape: tuple[int, ...] = (4, 5, 6), spacing: tuple[float, ...] = (1, 1, 1)
) -> MetaTensor:
    affine = np.eye(4)
    affine[:3, :3] = matrix * spacing
    affine[:3, 3] = (7, -11, 13)
    image = np.random.default_rng(0).integers(0, 1000, (1, *shape)).astype(np.float32)
    return MetaTensor(torch.from_numpy(image), affine=torch.from_numpy(affine))


@pytest.mark.parametrize("plane", DISPLAY_AXCODES)
@pytest.mark.parametrize("matrix", SIGNED_PERMUTATIONS)
def test_every_order_and_flip_of_the_axes(plane, matrix):
    scan = volume(matrix)
    out = UprightOrientation(plane)(scan)
    assert "".join(nib.aff2axcodes(out.affine)) == DISPLAY_AXCODES[plane]
    back = UprightOrientation(plane)
    restored = back.inverse(back(scan))
    assert torch.equal(restored.as_tensor(), scan.as_tensor())
    np.testing.assert_allclose(restored.affine, scan.affine, atol=1e-9)
    assert not restored.applied_operations


@pytest.mark.parametrize(
    ("plane", "up", "left"),
    [("axial", (0, 1, 0), (1, 0, 0)), ("coronal", (0, 0, 1), (1, 0, 0)), ("sagittal", (0, 0, 1), (0, 1, 0))],
)
def test_what_is_up_and_what_is_left(plane, up, left):
    """A voxel marked 8 mm towards ``up`` and 5 mm towards ``left`` (RAS) lies above and left of the centre."""
    scan = MetaTensor(torch.zeros(1, 21, 21, 21), affine=torch.from_numpy(np.diag([-1.0, 1, -1, 1])))
    scan.affine[:3, 3] = torch.tensor([10.0, -10, 10])
    world = np.array(up) * 8.0 + np.array(left) * 5.0
    i, j, k = (np.linalg.inv(scan.affine.numpy()) @ [*world, 1]).round().astype(int)[:3]
    scan[0, i, j, k] = 1
    row, column, slice_ = torch.nonzero(UprightOrientation(plane)(scan)[0])[0].tolist()
    assert (row, column, slice_) == (2, 5, 10)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SIGNED_PERMUTATIONS),
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.sampled_from([*DISPLAY_AXCODES, "acquisition"]),
    st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3),
)
def test_any_rotation_comes_back_exactly_even_after_a_crop(matrix, angles, plane, spacing):
    scan = volume(Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ matrix, spacing=spacing)
    upright, crop = UprightOrientation(plane), SpatialCrop(roi_start=(1, 1, 1), roi_end=(4, 4, 4))
    turned = upright(scan)
    corner = turned.affine.numpy() @ [1, 2, 3, 1]
    source = np.linalg.inv(scan.affine.numpy()) @ corner
    i, j, k = source[:3].round().astype(int)
    np.testing.assert_allclose(source[:3], (i, j, k), atol=1e-9)
    assert turned[0, 1, 2, 3] == scan[0, i, j, k]
    assert torch.equal(upright.inverse(upright(scan)).as_tensor(), scan.as_tensor())
    cropped = crop(turned)
    restored = upright.inverse(crop.inverse(cropped))
    np.testing.assert_allclose(restored.affine, scan.affine, atol=1e-9)
    kept = restored.as_tensor() != 0
    assert torch.equal(restored.as_tensor()[kept], scan.as_tensor()[kept])


@pytest.mark.parametrize("angle", [45.0, -45.0, 135.0])
def test_a_tilt_of_45_degrees_is_inverted_by_what_was_recorded(angle):
    for matrix in SIGNED_PERMUTATIONS:
        scan = volume(Rotation.from_euler("x", angle, degrees=True).as_matrix() @ matrix)
        upright = UprightOrientation("coronal")
        assert torch.equal(upright.inverse(upright(scan)).as_tensor(), scan.as_tensor())


@pytest.mark.parametrize(
    ("spacing", "plane"),
    [
        ((1, 1, 5), "axial"),
        ((5, 1, 1), "sagittal"),
        ((1, 5, 1), "coronal"),
        ((1, 1, 1), "axial"),
        ((1.0003, 1, 1), "axial"),
        ((3, 3, 1), "axial"),
    ],
)
def test_plane_of_acquisition(spacing, plane):
    affine = np.diag([*spacing, 1.0])
    assert acquisition_plane(affine) == plane
    scan = volume(np.eye(3), spacing=spacing)
    out = UprightOrientation("acquisition")(scan)
    assert "".join(nib.aff2axcodes(out.affine)) == DISPLAY_AXCODES[plane]


def test_plane_of_acquisition_of_permuted_axes():
    matrix = np.eye(3)[:, [2, 0, 1]]
    assert acquisition_plane(np.block([[matrix * [4, 1, 1], np.zeros((3, 1))], [0, 0, 0, 1]])) == "axial"
    assert acquisition_plane(np.block([[matrix, np.zeros((3, 1))], [0, 0, 0, 1]])) == "coronal"


def test_dictionary_form_no_warning_and_input_untouched():
    scan = volume(SIGNED_PERMUTATIONS[17])
    before = scan.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = UprightOrientationd("image")({"image": scan, "label": 3})
    assert out["label"] == 3
    assert torch.equal(scan, before)
    assert torch.equal(scan.affine, before.affine)
    assert not scan.applied_operations


def test_lps_metadata_are_understood():
    scan = volume(np.eye(3))
    lps = MetaTensor(scan.as_tensor(), affine=torch.diag(torch.tensor([-1.0, -1, 1, 1]).double()) @ scan.affine)
    lps.meta["space"] = "LPS"
    assert torch.equal(UprightOrientation()(lps).as_tensor(), UprightOrientation()(scan).as_tensor())


def test_bad_plane_and_bad_affine():
    with pytest.raises(ConfigurationError, match=r"plane='transversal'.*'axial'.*'acquisition'"):
        UprightOrientation("transversal")
    scan = MetaTensor(torch.zeros(1, 2, 2, 2), affine=torch.zeros(4, 4), meta={"filename_or_obj": "scan.nii.gz"})
    with pytest.raises(InputError, match=r"'scan.nii.gz' has no usable affine"):
        UprightOrientation()(scan)


@pytest.mark.parametrize("plane", [*DISPLAY_AXCODES, "acquisition"])
@pytest.mark.parametrize(("axis", "own"), enumerate(["sagittal", "coronal", "axial"]))
def test_a_single_slice_is_never_cut_into_lines(plane, axis, own, caplog):
    shape = tuple(1 if a == axis else 8 + a for a in range(3))
    scan = volume(np.eye(3), shape)
    turn = UprightOrientation(plane)
    out = turn(scan)
    assert out.shape[-1] == 1
    assert "".join(nib.aff2axcodes(out.affine)) == DISPLAY_AXCODES[own]
    assert (f"single {own} slice: plane={plane!r} is not used" in caplog.text) == (plane not in (own, "acquisition"))
    assert torch.equal(turn.inverse(out).as_tensor(), scan.as_tensor())
    line = UprightOrientation("coronal")(volume(np.eye(3), (1, 6, 1)))
    assert "".join(nib.aff2axcodes(line.affine)) == DISPLAY_AXCODES["coronal"]

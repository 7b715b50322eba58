from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.utils import SpaceKeys

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.inferers import PLANES, named_plane, native_plane
from monai_zsad.inferers.planes import PLAIN_AFFINE, volume_affines

SHAPE_RAS = (5, 6, 7)
LANDMARKS = {"right": (4, 3, 2), "anterior": (2, 5, 2), "superior": (2, 3, 6)}
AXIS_CODES = [tuple(codes) for order in permutations(("RL", "AP", "SI")) for codes in product(*order)]


def oriented(codes: tuple[str, ...], array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A volume in RAS, 1 mm, stored along other axes, and the affine of that."""
    image = nib.Nifti1Image(array, np.eye(4))
    transform = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
    )
    turned = image.as_reoriented(transform)
    return np.asarray(turned.dataobj), turned.affine


@pytest.mark.parametrize("name", PLANES)
def test_slices_stand_upright_from_any_axes(name):
    # Expected pixel of each landmark, from the definition of upright alone.
    x, y, z = SHAPE_RAS
    for (landmark, (i, j, k)), codes in product(LANDMARKS.items(), AXIS_CODES):
        array = np.zeros(SHAPE_RAS, np.float32)
        array[i, j, k] = 1
        volume, affine = oriented(codes, array)
        plane = named_plane(name, volume.shape, affine)
        upright = plane.prepare(plane.slices(torch.from_numpy(volume.copy())[None]))
        expected = {
            "axial": (y - 1 - j, x - 1 - i, (0, (y - x) // 2)),
            "coronal": (z - 1 - k, x - 1 - i, (0, (z - x) // 2)),
            "sagittal": (z - 1 - k, y - 1 - j, (0, (z - y) // 2)),
        }[name]
        row, column, (top, left) = expected
        found = upright.nonzero()
        assert len(found) == 1, (landmark, codes)
        assert found[0, 2:].tolist() == [row + top, column + left], (landmark, codes)


def test_each_plane_cuts_its_own_axis_of_an_oblique_volume():
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([2.0, -3.0, 1.0])
    planes = {name: named_plane(name, (4, 5, 6), affine) for name in PLANES}
    assert {name: plane.axis for name, plane in planes.items()} == {"sagittal": 0, "coronal": 1, "axial": 2}
    assert planes["axial"].spacing == pytest.approx((3, 2))
    assert planes["axial"].through_spacing == pytest.approx(1)
    assert planes["axial"].flip == (False, True)
    assert native_plane((4, 5, 6), affine).name == "axial"


def test_resampling_goes_to_the_finer_spacing_and_keeps_the_extent():
    plane = named_plane("coronal", (100, 3, 20), np.diag([0.5, 1, 3, 1]))
    assert plane.shape == (20, 100)
    assert plane.size == (120, 100)
    assert plane.prepared_size == (120, 120)
    assert plane.prepared_spacing == pytest.approx((0.5, 0.5))


def test_nearly_isotropic_slices_are_not_resampled():
    plane = named_plane("axial", (64, 64, 3), np.diag([0.7001, 0.7, 5, 1]))
    assert plane.size == plane.shape
    volume = torch.rand(1, 64, 64, 3)
    assert torch.equal(plane.restore(plane.prepare(plane.slices(volume))), plane.slices(volume))


def test_linear_field_survives_resampling_but_for_the_border():
    plane = named_plane("coronal", (6, 4, 12), np.diag([1.0, 1, 2.5, 1]))
    volume = torch.arange(12.0).expand(1, 6, 4, 12).contiguous()
    back = plane.restore(plane.prepare(plane.slices(volume)))
    expected = plane.slices(volume)
    assert torch.allclose(back[..., 1:-1, :], expected[..., 1:-1, :], atol=1e-5)


def test_preparing_and_restoring_change_nothing_in_place():
    plane = named_plane("sagittal", (4, 5, 6), PLAIN_AFFINE)
    volume = torch.rand(1, 4, 5, 6)
    kept = volume.clone()
    prepared = plane.prepare(plane.slices(volume))
    before = prepared.clone()
    plane.restore(prepared).zero_()
    prepared.zero_()
    assert torch.equal(volume, kept)
    assert before.any()


def test_unknown_plane_names_those_there_are():
    with pytest.raises(ConfigurationError, match=r"'oblique'.*axial, coronal, sagittal"):
        named_plane("oblique", (4, 4, 4), np.eye(4))


@pytest.mark.parametrize(
    "affine",
    [np.diag([1.0, 1, 0, 1]), np.full((4, 4), np.nan), np.eye(3)],
    ids=["singular", "not finite", "3 x 3"],
)
def test_unusable_affine_is_refused(affine):
    for make in (lambda: named_plane("axial", (4, 4, 4), affine), lambda: native_plane((4, 4, 4), affine)):
        with pytest.raises(InputError, match="affine"):
            make()


class TestVolumeAffines:
    def test_plain_tensor_counts_as_posterior_left_superior(self):
        affines = volume_affines(torch.zeros(2, 1, 3, 3, 3))
        assert len(affines) == 2
        assert nib.aff2axcodes(affines[0]) == ("P", "L", "S")

    def test_one_for_all_or_one_each(self):
        one = MetaTensor(torch.zeros(2, 1, 3, 3, 3), affine=torch.diag(torch.tensor([2.0, 2, 2, 1])))
        assert [a[0, 0] for a in volume_affines(one)] == [2, 2]
        each = one.clone()
        each.meta["affine"] = torch.stack([torch.eye(4), 3 * torch.eye(4)])
        assert [a[0, 0] for a in volume_affines(each)] == [1, 3]

    def test_lps_is_turned_to_ras(self):
        volume = MetaTensor(torch.zeros(1, 1, 3, 3, 3), affine=torch.eye(4), meta={"space": SpaceKeys.LPS})
        assert nib.aff2axcodes(volume_affines(volume)[0]) == ("L", "P", "S")

    def test_other_number_of_affines_is_refused(self):
        volume = MetaTensor(torch.zeros(2, 1, 3, 3, 3))
        volume.meta["affine"] = torch.eye(4).expand(3, 4, 4)
        with pytest.raises(InputError, match="2 volumes"):
            volume_affines(volume)

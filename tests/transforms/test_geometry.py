from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from scipy.spatial.transform import Rotation

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.transforms import BodyCrop, BodyCropd, InPlaneSpacing, InPlaneSpacingd, SquarePad, SquarePadd


def volume(spacing: tuple[float, ...], shape: tuple[int, ...] = (12, 16, 5), angle: float = 0) -> MetaTensor:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [angle] * 3, degrees=True).as_matrix() * spacing
    affine[:3, 3] = (3, -40, 8)
    image = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    return MetaTensor(torch.from_numpy(image), affine=torch.from_numpy(affine))


@pytest.mark.parametrize("spacing", [(1, 1, 4), (0.7, 0.7003, 1), (2, 2, 2)])
def test_isotropic_pixels_are_not_touched(spacing):
    scan = volume(spacing, angle=10)
    transform = InPlaneSpacing()
    out = transform(scan)
    assert torch.equal(out.as_tensor(), scan.as_tensor())
    assert torch.equal(out.affine, scan.affine)
    back = transform.inverse(out)
    assert torch.equal(back.as_tensor(), scan.as_tensor())
    assert not back.applied_operations


@pytest.mark.parametrize(
    ("spacing", "wanted", "expected"),
    [((1, 2, 5), None, 1), ((2.5, 1, 1), None, 1), ((1, 1, 5), 0.5, 0.5), ((1, 2, 1), 3.0, 3)],
)
def test_new_spacing_keeps_centre_slices_and_extent(spacing, wanted, expected):
    scan = volume(spacing, angle=15)
    out = InPlaneSpacing(wanted)(scan)
    np.testing.assert_allclose(affine_to_spacing(out.affine), [expected, expected, spacing[2]])
    np.testing.assert_allclose(out.affine[:3, 2], scan.affine[:3, 2], atol=1e-12)
    centres = [a @ torch.tensor([*((np.array(v.shape[1:]) - 1) / 2), 1]) for v in (scan, out) for a in [v.affine]]
    np.testing.assert_allclose(centres[0], centres[1], atol=1e-9)
    extent = np.array(scan.shape[1:3]) * spacing[:2]
    assert np.all(np.abs(np.array(out.shape[1:3]) * expected - extent) <= expected / 2 + 1e-9)
    assert out.shape[3] == scan.shape[3]


def test_slices_do_not_mix():
    scan = volume((1, 2, 3))
    scan[:, :, :, 2] += 1000
    out = InPlaneSpacing()(scan)
    means = out.mean(dim=(0, 1, 2)).as_tensor()
    assert float(means[2]) > 990
    assert float(means[[0, 1, 3, 4]].abs().max()) < 2
    alone = InPlaneSpacing()(volume((1, 2, 3)))[..., 0]
    torch.testing.assert_close(out[..., 0].as_tensor(), alone.as_tensor(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("spacing", [0, -1, float("nan"), float("inf")])
def test_bad_spacing(spacing):
    with pytest.raises(ConfigurationError, match="spacing_mm"):
        InPlaneSpacingd("image", spacing)


@pytest.mark.parametrize(("shape", "pads"), [((5, 8, 3), (1, 0)), ((8, 5, 3), (0, 1)), ((6, 6, 9), (0, 0))])
def test_square_pad_is_symmetric_keeps_positions_and_comes_back(shape, pads):
    scan = volume((1, 1, 2), shape)
    transform = SquarePadd("image", value=-1)
    data = transform({"image": scan})
    out = data["image"]
    side = max(shape[:2])
    assert out.shape == (2, side, side, shape[2])
    r, c = pads
    assert torch.equal(out[:, r : r + shape[0], c : c + shape[1]].as_tensor(), scan.as_tensor())
    assert int((out == -1).sum()) == out.numel() - scan.numel()
    np.testing.assert_allclose(out.affine @ torch.tensor([r, c, 0, 1.0]).double(), scan.affine[:, 3])
    back = transform.inverse(data)["image"]
    assert torch.equal(back.as_tensor(), scan.as_tensor())
    np.testing.assert_allclose(back.affine, scan.affine)
    assert SquarePad()(scan).shape == out.shape


def test_crop_margin_is_in_mm_of_each_axis_and_stays_inside():
    scan = MetaTensor(torch.zeros(1, 60, 40, 20), affine=torch.diag(torch.tensor([0.5, 1.0, 4.0, 1.0])).double())
    scan[:, 30:40, 2:20, 8:10] = 5
    crop = BodyCrop(margin_mm=6)
    start, end = crop.compute_bounding_box(scan)
    assert (start.tolist(), end.tolist()) == ([18, 0, 6], [52, 26, 12])
    out = crop(scan)
    assert out.shape == (1, 34, 26, 6)
    np.testing.assert_allclose(out.affine[:3, 3], [9, 0, 24])
    back = crop.inverse(out)
    assert torch.equal(back.as_tensor(), scan.as_tensor())
    np.testing.assert_allclose(back.affine, scan.affine)


def test_one_box_for_all_keys_and_its_source():
    scan = volume((1, 1, 1), (10, 10, 10))[:1]
    mask = MetaTensor(torch.zeros(1, 10, 10, 10), affine=scan.affine)
    mask[:, 4:6, 3:9, 5] = 1
    transform = BodyCropd(
        ["image", "mask"], source_key="mask", margin_mm=1, foreground=lambda m: m > 0, start_coord_key="start"
    )
    out = transform({"image": scan, "mask": mask})
    assert out["image"].shape == out["mask"].shape == (1, 4, 8, 3)
    assert out["start"].tolist() == [3, 2, 4]
    assert torch.equal(out["image"].as_tensor(), scan[:, 3:7, 2:10, 4:7].as_tensor())
    assert set(BodyCropd("image")({"image": scan})) == {"image"}


def test_no_body_means_no_crop():
    scan = MetaTensor(torch.full((1, 4, 5, 6), 3.0))
    assert BodyCrop()(scan).shape == scan.shape
    assert BodyCrop(foreground=lambda img: img > 9)(scan).shape == scan.shape


def test_bad_margin_and_bad_affine():
    with pytest.raises(ConfigurationError, match="margin_mm"):
        BodyCrop(-1)
    broken = MetaTensor(torch.rand(1, 4, 4, 4), affine=torch.full((4, 4), float("nan")))
    with pytest.raises(InputError, match="no usable affine"):
        BodyCrop()(broken)
    with pytest.raises(InputError, match="no usable affine"):
        InPlaneSpacing()(broken)

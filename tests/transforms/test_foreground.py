from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.transforms import BodyMask, BodyMaskd


def head(size: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A ball of tissue with an enclosed cavity and an airway that is open to the outside; and the ball itself."""
    grid = np.indices((size,) * 3) - (size - 1) / 2
    ball = (grid**2).sum(0) < (0.4 * size) ** 2
    cavity = (grid**2).sum(0) < (0.1 * size) ** 2
    airway = (np.abs(grid[0]) < 2) & (np.abs(grid[1]) < 2) & (grid[2] < 0)
    return np.where(ball & ~cavity & ~airway, 100.0, 0.0).astype(np.float32), ball


def mask_of(values: np.ndarray, **kwargs) -> np.ndarray:
    out = BodyMask(**kwargs)(torch.from_numpy(values)[None])
    assert out.dtype == torch.bool
    assert out.shape == (1, *values.shape)
    return out.numpy()[0]


def test_cavity_and_open_airway_are_filled():
    values, ball = head()
    np.testing.assert_array_equal(mask_of(values), ball)
    assert not mask_of(values, fill_holes=False)[20, 20, 20]


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1, -1024), (20, -3000), (1, 1e5), (1e-3, 0)])
def test_offset_and_scale_do_not_matter(scale, offset):
    values, ball = head()
    np.testing.assert_array_equal(mask_of(np.float32(scale) * values + np.float32(offset)), ball)


def test_ringing_background_and_a_bright_outlier():
    values, ball = head()
    rng = np.random.default_rng(0)
    ringing = values + np.where(ball, 0, 20 * np.sin(np.indices(values.shape).sum(0))) + rng.normal(0, 3, values.shape)
    ringing[20, 20, 25] = 1e6
    np.testing.assert_array_equal(mask_of(ringing.astype(np.float32)), ball)


def test_padding_around_the_field_of_view_of_a_ct_counts_as_air():
    values, ball = head()
    hu = np.where(values > 0, 40, -1000).astype(np.int16)
    grid = np.indices(hu.shape) - (hu.shape[0] - 1) / 2
    hu[(grid[:2] ** 2).sum(0) > 19.5**2] = -3024
    ct = MetaTensor(torch.from_numpy(hu)[None], meta={"modality": "CT"})
    np.testing.assert_array_equal(BodyMask()(ct).numpy()[0], ball)


def test_specks_go_and_a_second_leg_stays():
    values = np.zeros((30, 30, 12), np.float32)
    values[2:12, 2:12] = 100
    values[16:24, 16:24] = 80
    values[28, 28, 5] = 200
    legs = values > 0
    legs[28, 28, 5] = False
    np.testing.assert_array_equal(mask_of(values), legs)
    largest = mask_of(values, keep_largest=True)
    assert largest.sum() == 10 * 10 * 12
    assert mask_of(values, min_part=0)[28, 28, 5]


def test_threshold_and_its_failure():
    values, _ = head()
    assert mask_of(values, method=99).any()
    with pytest.raises(InputError, match="above the foreground threshold 100: its values run from 0 to 100"):
        mask_of(values, method=100)


def test_constant_volume_is_foreground_all_over():
    assert mask_of(np.full((3, 4, 5), -7, np.float32)).all()


def test_single_slice_and_few_bright_voxels():
    flat = np.zeros((50, 50, 1), np.float32)
    flat[3:5, 3:5] = 9
    np.testing.assert_array_equal(mask_of(flat), flat > 0)


def test_metadata_and_input_stay():
    values, _ = head()
    scan = MetaTensor(torch.from_numpy(values)[None], affine=torch.diag(torch.tensor([1.0, 2, 3, 1])), meta={"a": 1})
    before = scan.clone()
    data = BodyMaskd("image")({"image": scan})
    assert torch.equal(data["image"], before)
    assert torch.equal(data["mask_image"].affine, scan.affine)
    assert data["mask_image"].meta["a"] == 1
    assert BodyMaskd("image", new_key_prefix=None)({"image": scan})["image"].dtype == torch.bool


@pytest.mark.parametrize("kwargs", [{"method": "li"}, {"method": float("nan")}, {"method": True}, {"min_part": 2}])
def test_bad_arguments(kwargs):
    with pytest.raises(ConfigurationError, match=next(iter(kwargs))):
        BodyMask(**kwargs)


def test_non_finite_is_refused():
    with pytest.raises(InputError, match="NaN or infinite"):
        BodyMask()(torch.full((1, 2, 2, 2), float("inf")))


def photograph() -> torch.Tensor:
    """Skin (3, 40, 40, 1) from 0 to 255, with a dark lesion at its edge, in a round frame before black with noise."""
    row, column = np.mgrid[:40, :40]
    pixels = np.full((3, 40, 40, 1), [[[[214.0]]], [[[162]]], [[[148]]]])
    pixels[:, (np.hypot(row - 4, column - 20) < 9)] = np.array([48.0, 30, 26])[:, None, None]
    outside = np.hypot(row - 19.5, column - 19.5) > 19
    pixels[:, outside] = np.random.default_rng(0).uniform(0, 10, (3, outside.sum(), 1))
    return torch.from_numpy(pixels.astype(np.float32))


@pytest.mark.parametrize("scale", [1, 255], ids=["as read", "as the network sees it"])
def test_a_dark_lesion_of_a_photograph_is_no_background(scale):
    mask = BodyMask()(MetaTensor(photograph() / scale, meta={"colour": "RGB"}))[0, ..., 0].numpy()
    row, column = np.mgrid[:40, :40]
    np.testing.assert_array_equal(mask, np.hypot(row - 19.5, column - 19.5) <= 19)
    grey = BodyMask()(MetaTensor(photograph().mean(0, keepdim=True), meta={"colour": ""}))[0, ..., 0].numpy()
    assert not grey[4, 20], "Otsu takes the lesion for background, which is why photographs need their own rule"


def test_the_number_of_threads_changes_nothing():
    scan = torch.rand(1, 30, 41, 27, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(BodyMask(method=0.3)(scan))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
    assert int(found[0].sum()) > int((scan > 0.3).sum()), "holes were filled"

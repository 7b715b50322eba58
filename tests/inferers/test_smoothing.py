from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from monai_zsad.inferers.stack import smooth_through_slices

ALL = torch.ones(21, dtype=torch.bool)


def test_inside_the_volume_it_is_a_gaussian_of_that_sigma():
    maps = torch.zeros(21, 3, 2)
    maps[10, 1, 0] = 1
    expected = gaussian_filter1d(maps.numpy(), 1.5, axis=0, mode="constant")
    smooth_through_slices(maps, ALL, 1.5)
    assert np.abs(maps.numpy()[4:17] - expected[4:17]).max() < 5e-3
    assert maps.sum() == pytest.approx(1, abs=2e-3)
    assert maps[:, 0].abs().max() == 0, "other rows are not touched"


@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_constant_map_stays_constant_up_to_the_borders_and_gaps(sigma):
    seen = ALL.clone()
    seen[[0, 7, 8, 20]] = False
    maps = torch.full((21, 2, 2), 0.7) * seen[:, None, None]
    smooth_through_slices(maps, seen, sigma)
    assert torch.allclose(maps[seen], torch.tensor(0.7), atol=1e-6)
    assert not maps[~seen].any()


def test_unseen_slices_neither_give_nor_take():
    seen = ALL.clone()
    seen[10] = False
    maps, other = torch.rand(21, 2, 2), torch.empty(21, 2, 2)
    other.copy_(maps)
    other[10] = 100
    smooth_through_slices(maps, seen, 2.0)
    smooth_through_slices(other, seen, 2.0)
    assert torch.equal(maps[seen], other[seen])
    assert (other[10] == 100).all()


def test_writes_into_a_view_of_a_volume():
    volume = torch.rand(4, 5, 21)
    expected = volume.clone().permute(2, 0, 1).contiguous()
    smooth_through_slices(expected, ALL, 1.0)
    smooth_through_slices(volume.permute(2, 0, 1), ALL, 1.0)
    assert torch.equal(volume.permute(2, 0, 1), expected)


def test_keeps_float32_precision_under_autocast():
    maps = torch.rand(21, 3, 3)
    expected = maps.clone()
    smooth_through_slices(expected, ALL, 1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        smooth_through_slices(maps, ALL, 1.0)
    assert torch.equal(maps, expected)

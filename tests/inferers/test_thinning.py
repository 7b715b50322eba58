"""Every k-th slice through the network, the others from their neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from monai_zsad.inferers import VolumeSliceInferer
from monai_zsad.inferers.stack import fill_between, thinned
from tests.inferers.toy import Brightness, Textured


@given(seen=st.lists(st.booleans(), min_size=1, max_size=30).map(torch.tensor), step=st.integers(1, 7))
def test_no_seen_slice_is_without_neighbours_that_were_run(seen: torch.Tensor, step: int) -> None:
    run = set(thinned(seen, step).tolist())
    assert run <= set(seen.nonzero().flatten().tolist())
    for index in seen.nonzero().flatten().tolist():
        low = next(i for i in range(index, -1, -1) if i in run or not seen[i])
        high = next(i for i in range(index, len(seen)) if i in run or not seen[i])
        assert {low, high} <= run, "its own run of slices ends with slices that were run"
        assert high - low <= step
    if step == 1:
        assert len(run) == int(seen.sum())


@given(seen=st.lists(st.booleans(), min_size=1, max_size=30).map(torch.tensor), step=st.integers(1, 7))
def test_what_is_linear_from_slice_to_slice_is_kept(seen: torch.Tensor, step: int) -> None:
    whole = torch.arange(len(seen), dtype=torch.float32).mul(0.5)[:, None].add(torch.tensor([0.0, 3.0]))
    maps = torch.full_like(whole, -1)
    run = thinned(seen, step)
    maps[run] = whole[run]
    fill_between(maps, seen, run)
    torch.testing.assert_close(maps[seen], whole[seen])
    assert (maps[~seen] == -1).all()


def volume(count: int, spacing: float, axis: int = 2) -> MetaTensor:
    shape, steps = [1, 1, 12, 12, 12], [1.0, 1.0, 1.0]
    shape[2 + axis], steps[axis] = count, spacing
    generator = torch.Generator().manual_seed(1)
    return MetaTensor(torch.rand(shape, generator=generator) + 0.01, affine=np.diag([*steps, 1.0]))


def plain(result: torch.Tensor) -> torch.Tensor:
    assert isinstance(result, MetaTensor)
    return result.as_tensor()


@pytest.mark.parametrize(
    ("spacing", "wanted", "run"),
    [
        (1.0, 2.0, 7),  # 0, 2, ..., 12
        (0.9996, 3.0, 5),  # every third, though three of them are a little less than 3 mm
        (1.0, 5.0, 4),  # 0, 5, 10, and the last
        (0.7, 2.0, 7),
        (1.5, 2.0, 13),
        (4.0, 2.0, 13),
        (1.0, 100.0, 2),
    ],
)
def test_distance_decides_which_slices_are_run(spacing: float, wanted: float, run: int) -> None:
    inputs, network = volume(13, spacing), Brightness()
    result = VolumeSliceInferer(batch_size=3, slice_spacing_mm=wanted)(inputs, network)
    whole = VolumeSliceInferer()(inputs, Brightness())
    assert network.count == run
    assert result.shape == whole.shape
    for end in (0, -1):
        assert torch.equal(result[..., end], whole[..., end])
    if run == 13:
        assert torch.equal(result, whole)


def test_map_and_score_between_are_those_of_the_neighbours() -> None:
    inputs, network = volume(7, 1.0), Textured()
    with torch.no_grad():
        whole = VolumeSliceInferer()(inputs, network)
        result = VolumeSliceInferer(slice_spacing_mm=3.0)(inputs, network)
    for index, share in ((1, 1 / 3), (2, 2 / 3)):
        expected = torch.lerp(plain(whole)[..., 0], plain(whole)[..., 3], share)
        torch.testing.assert_close(plain(result)[..., index], expected)
    assert torch.equal(result[..., [0, 3, 6]], whole[..., [0, 3, 6]])


def test_each_plane_by_its_own_spacing() -> None:
    inputs, network = volume(9, 4.0), Brightness()
    VolumeSliceInferer(planes=["axial", "coronal"], slice_spacing_mm=4.0)(inputs, network)
    assert network.count == 9 + 4  # coronal, of 12 slices of 1 mm: 0, 4, 8, 11


def test_skipped_slices_stay_empty() -> None:
    inputs, network = volume(9, 1.0), Brightness()
    inputs[..., 4:6] = 0
    result = VolumeSliceInferer(slice_spacing_mm=2.0)(inputs, network)
    assert not result[..., 4:6].any()
    assert network.count == 3 + 2  # 0, 2, 3 and 6, 8
    assert (result[:, 0, ..., [1, 7]] > 0).all()


def test_context_and_smoothing_come_from_all_slices() -> None:
    inputs, network = volume(9, 1.0), Brightness()
    VolumeSliceInferer(batch_size=9, slice_spacing_mm=2.0, context_mm=1.0)(inputs, network)
    seen = torch.cat(network.seen)
    torch.testing.assert_close(seen[1, :, :, :], inputs[0, 0, :, :, 1:4].as_tensor().permute(2, 0, 1))
    constant = MetaTensor(torch.full((1, 1, 8, 8, 9), 0.5), affine=np.eye(4))
    result = VolumeSliceInferer(slice_spacing_mm=4.0, smooth_slices_mm=2.0)(constant, Brightness())
    torch.testing.assert_close(plain(result), torch.full((1, 2, 8, 8, 9), 0.5))

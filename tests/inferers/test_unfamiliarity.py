"""The third channel of networks that tell how unlike their training data a slice is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monai_zsad.inferers import VolumeSliceInferer
from tests.inferers.toy import Brightness, Telling


@pytest.fixture
def volume() -> torch.Tensor:
    """Slices of different brightness, the second one empty."""
    values = torch.rand(1, 1, 24, 20, 7, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.1
    values *= torch.linspace(0.4, 1.6, 7)
    values[..., 1] = 0
    return values


def infer(volume: torch.Tensor, network: Any = None, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return VolumeSliceInferer(batch_size=2, **options)(volume, Telling() if network is None else network)


def told(volume: torch.Tensor) -> torch.Tensor:
    """What the network says of each slice along the last axis."""
    return Telling()(volume[0].permute(3, 0, 1, 2).contiguous())[:, 2, 0, 0]


def test_slices_have_the_values_of_the_network(volume):
    result = infer(volume)
    assert result.shape == (1, 3, 24, 20, 7)
    assert torch.equal(result[0, 2], told(volume).expand(24, 20, 7))
    assert result[0, 2, 0, 0, 1] == 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"roi_size": 12},
        {"planes": ["axial", "coronal"]},
        {"planes": "sagittal", "roi_size": 6},
        {"slice_spacing_mm": 2.0, "smooth_slices_mm": 1.5},
    ],
)
def test_map_and_score_are_those_of_a_network_that_does_not_tell(volume, options):
    batch = torch.cat([torch.zeros_like(volume), volume])
    plain = infer(batch, Brightness(), **options)
    result = infer(batch, **options)
    assert plain.shape[1] == 2
    assert torch.equal(result[:, :2], plain)
    assert not result[0].any(), "an empty volume before the first call of the network"
    assert result[1, 2].max() > 1


def test_only_the_map_is_smoothed_and_left_out_slices_lie_between(volume):
    values = told(volume)
    result = infer(volume, slice_spacing_mm=2.0, smooth_slices_mm=1.5)[0, 2, 0, 0]
    ran = [0, 2, 4, 6]
    assert torch.equal(result[ran], values[ran])
    torch.testing.assert_close(result[[3, 5]], (values[[2, 4]] + values[[4, 6]]) / 2)


def test_windows_give_a_slice_their_median_and_empty_windows_do_not_count():
    volume = torch.zeros(1, 1, 32, 32, 2)
    volume[..., 16:, 16:, :] = 0.2  # the first three of four windows are empty
    result = infer(volume, roi_size=16, overlap=0.0, min_foreground=0.001)
    torch.testing.assert_close(result[0, 2], torch.full((32, 32, 2), 2.0))
    volume[..., :16, :, :] = 0.05
    result = infer(volume, roi_size=16, overlap=0.0)
    torch.testing.assert_close(result[0, 2], torch.full((32, 32, 2), 0.5), msg="two of three windows say 0.5")


def test_planes(volume):
    both = infer(volume, planes=["coronal", "axial"])
    assert torch.equal(both[0, 2], infer(volume, planes="axial")[0, 2]), "slices of the last axis have their own value"
    other = infer(volume, planes="coronal")[0, 2, 0, 0]
    slices = Telling()(torch.nn.functional.pad(volume[0].permute(1, 0, 2, 3), (6, 7)))[:, 2, 0, 0]
    kept = [0, 2, 3, 4, 5, 6]
    torch.testing.assert_close(other[kept], slices.median().expand(6))
    assert other[1] == 0

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ScaleIntensityRange

from monai_zsad.transforms import _volume
from monai_zsad.transforms._volume import all_finite, box_of, each_voxel


@pytest.mark.parametrize("slab", [1, 50, 10**6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int16, torch.bfloat16])
def test_slabs_give_what_the_whole_gives(slab: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_volume, "_SLAB_VOXELS", slab)
    values = (torch.rand(2, 7, 5, 3, generator=torch.Generator().manual_seed(0)) * 100 - 30).to(dtype)
    volume = MetaTensor(values.clone().permute(0, 3, 1, 2), affine=torch.diag(torch.tensor([2.0, 1.0, 1.0, 1.0])))
    scale = ScaleIntensityRange(-10, 40, 0.0, 1.0, clip=True)
    out = each_voxel(volume, scale)
    assert isinstance(out, MetaTensor)
    assert torch.equal(out.as_tensor(), torch.as_tensor(scale(volume)))
    assert out.dtype == torch.float32
    assert torch.equal(out.affine, volume.affine)
    assert torch.equal(volume.as_tensor(), values.permute(0, 3, 1, 2))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 6, 4, 2)])
def test_one_bad_voxel_is_found(bad: float, place: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_volume, "_SLAB_VOXELS", 20)
    volume = torch.zeros(2, 7, 5, 3)
    assert all_finite(volume)
    volume[place] = bad
    assert not all_finite(volume)
    assert all_finite(torch.zeros(1, 2, 2, 2, dtype=torch.uint8))


def test_box() -> None:
    mask = np.zeros((5, 6, 7), dtype=bool)
    assert mask[box_of(mask)].shape == (1, 1, 1)
    mask[1, 2, 3] = mask[3, 4, 3] = True
    assert box_of(mask) == (slice(1, 4), slice(2, 5), slice(3, 4))

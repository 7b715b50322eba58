"""Preparing volumes: places deep inside, what may be a lesion already, phantoms and real scans."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Orientation
from scipy.ndimage import binary_dilation, distance_transform_edt

from monai_zsad.errors import InputError
from monai_zsad.synthesis import PrepareAnatomy, PrepareAnatomyD, PrepareAnatomyd, anatomies
from monai_zsad.synthesis import anatomy as module
from monai_zsad.synthesis.phantoms import phantom_head


def ball(radius_mm: float, spacing: tuple[float, ...], margin: int = 3) -> tuple[MetaTensor, np.ndarray]:
    """An even ball, and the distance in mm of every voxel from its centre."""
    shape = [2 * (int(radius_mm / step) + margin) + 1 for step in spacing]
    axes = [(np.arange(n) - n // 2) * step for n, step in zip(shape, spacing, strict=True)]
    away = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    image = torch.from_numpy((away <= radius_mm).astype(np.float32) * 0.5)[None]
    return MetaTensor(image, affine=np.diag([*spacing, 1.0])), away


@settings(max_examples=12, deadline=None)
@given(st.floats(1, 9), st.sampled_from([(1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (2.0, 1.5, 1.0)]))
def test_places_are_deep_inside(depth: float, spacing: tuple[float, ...]) -> None:
    image, away = ball(16.0, spacing)
    anatomy = PrepareAnatomy(depth_mm=depth)(image)
    assert anatomy.spacing == pytest.approx(spacing)
    body, places, doubtful = anatomy.volume[1:].numpy() > 0
    assert not doubtful.any()
    assert (body[away < 16 - 2 * max(spacing)]).all()
    assert not body[away > 16 + 2 * max(spacing)].any()
    assert places.any()
    to_air = distance_transform_edt(np.pad(body, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    assert to_air[places].min() > depth
    assert (to_air[~places] <= depth).all()
    assert torch.equal(anatomy.volume[0], image[0].as_tensor())


def test_faces_of_the_volume_are_surface() -> None:
    _, body, places, _ = PrepareAnatomy(depth_mm=3)(torch.full((1, 14, 14, 14), 0.5)).volume
    assert body[0, 7, 7]
    assert body[7, 7, -1]
    assert places[7, 7, 7]
    assert not places[:3].any()
    assert not places[..., -3:].any()


def test_holes_and_specks() -> None:
    image, away = ball(14.0, (1.0, 1.0, 1.0))
    image[0, 17, 17, 17] = 0  # a hole
    image[0, 0, 0, 0] = 0.5  # a speck
    _, body, _, _ = PrepareAnatomy()(image).volume
    assert body[17, 17, 17]
    assert not body[0, 0, 0]
    assert away.shape == body.shape


def test_bright_spots_and_known_lesions_are_doubtful() -> None:
    image, away = ball(16.0, (1.0, 1.0, 1.0))
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)) * 0.01
    image = image + noise * (image > 0)
    image[0, 22:25, 19:22, 19:22] = 0.9
    spot = np.zeros(image.shape[1:], dtype=bool)
    spot[22:25, 19:22, 19:22] = True
    lesions = torch.zeros_like(image)
    lesions[0, 14, 14, 14] = 1
    before = image.clone()

    doubtful = PrepareAnatomy(depth_mm=3, bright_limit=4)(image).volume[3].numpy() > 0
    assert doubtful[spot].all()
    assert not doubtful[~binary_dilation(spot, iterations=4)].any()
    assert not PrepareAnatomy(depth_mm=3)(image).volume[3].any()
    known = PrepareAnatomy(depth_mm=3)(image, lesions).volume[3].numpy() > 0
    np.testing.assert_array_equal(known, binary_dilation(lesions[0].numpy() > 0, iterations=2))
    both = PrepareAnatomy(depth_mm=3, bright_limit=4)(image, lesions).volume[3].numpy() > 0
    np.testing.assert_array_equal(both, known | doubtful)
    assert torch.equal(image, before)
    assert away[spot].max() < 16


def test_no_body() -> None:
    with pytest.raises(InputError, match="no body"):
        PrepareAnatomy()(torch.zeros(1, 8, 8, 8))


def test_dictionary_joins_images_and_items_have_their_own_settings() -> None:
    image, _ = ball(12.0, (1.0, 2.0, 1.0))
    data: dict[Hashable, Any] = {"t2": 0.5 * image, "t1": image, "lesions": image * 0, "depth_mm": 8, "case": "a"}
    found = PrepareAnatomyd(["t1", "flair", "t2"], depth_mm=2)(data)
    assert set(found) == {"anatomy", "depth_mm", "case"}
    assert set(data) == {"t1", "t2", "lesions", "depth_mm", "case"}
    volume, spacing, masks = found["anatomy"]
    assert masks == 3
    assert volume.shape[0] == 2 + 3
    assert spacing == (1.0, 2.0, 1.0)
    torch.testing.assert_close(volume[1], 0.5 * volume[0])
    assert PrepareAnatomyD is PrepareAnatomyd
    other = PrepareAnatomyd("t1", depth_mm=2)({"t1": image})["anatomy"].volume
    assert other[2].sum() > 2 * volume[3].sum()


def test_phantoms_stand_as_scans_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ((44, 50, 16), (4.0, 4.0, 9.0))
    monkeypatch.setattr(module, "_HEAD_GRID", grid)
    (found,) = anatomies([], tmp_path, PrepareAnatomyd("t1"), heads=1, phantom_frequency=0.5, seed=3)
    assert found["frequency"] == 0.5
    assert found["planes"] == (("axial", 1.0),)
    phantom = phantom_head(*grid, seed=3, lesion=False, contrast="random")
    upright = Orientation("PLS", labels=None)(
        MetaTensor(torch.from_numpy(phantom.image.copy())[None], affine=phantom.affine)
    )
    low, high = np.percentile(phantom.image, (0.5, 99.5))
    volume, spacing, masks = found["anatomy"]
    assert masks == 3
    torch.testing.assert_close(volume[0], ((upright[0].as_tensor() - low) / (high - low)).clamp(0, 1).float())
    assert spacing == pytest.approx(upright.pixdim.tolist())


def test_a_missing_scan_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t1\.nii\.gz is missing"):
        anatomies([{"t1": "t1.nii.gz", "frequency": 2}], tmp_path, PrepareAnatomyd("t1"))


def test_a_real_scan(shared: Path) -> None:
    folder = shared / "data" / "ms3d"
    known = np.asarray(nibabel.load(folder / "patient19_lesions.nii.gz").dataobj) > 0
    through = int(known.sum((0, 1)).argmax())
    part = np.s_[::2, ::2, through - 12 : through + 12]
    t1 = np.asarray(nibabel.load(folder / "patient19_T1.nii.gz").dataobj[part], dtype=np.float32)
    lesions = torch.from_numpy(known[part].astype(np.float32))[None]
    scaled = torch.from_numpy(t1 / np.percentile(t1, 99.5)).clamp(0, 1)[None]
    image = MetaTensor(scaled, affine=np.diag([2.0, 2.0, 1.0, 1.0]))
    _, body, places, doubtful = PrepareAnatomy(depth_mm=4)(image, lesions).volume
    assert 0.15 < float(body.mean()) < 0.8
    assert 0.1 < float(places.sum() / body.sum()) < 0.9
    assert doubtful[lesions[0] > 0].all()
    assert float(doubtful.mean()) < 0.2
    assert body[lesions[0] > 0].float().mean() > 0.9

"""Slabs: every pixel at its place in mm, upright, with the spacing that is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_zsad.errors import ConfigurationError
from monai_zsad.synthesis import SlabSettings
from monai_zsad.synthesis.slabs import Slab, cut_slab

# Directions (posterior, left, superior) in which rows, columns and slices count, as a radiologist looks at a slice.
UPRIGHT = {
    "axial": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    "coronal": np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]]),
    "sagittal": np.array([[0, 0, -1], [1, 0, 0], [0, 1, 0]]),
}


class Middle(np.random.Generator):
    """Draws the middle of every range, so that a slab's place is known."""

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return (low + high) / 2


def ramps(shape: tuple[int, ...], spacing: tuple[float, ...], body: tuple[slice, ...]) -> torch.Tensor:
    """Channels: mm from the volume's corner along each axis, ones, and the body."""
    axes = [(torch.arange(n) + 0.5) * step for n, step in zip(shape, spacing, strict=True)]
    mask = torch.zeros(shape)
    mask[body] = 1
    return torch.stack([*torch.meshgrid(*axes, indexing="ij"), torch.ones(shape), mask]).float()


def positions(slab: Slab) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 3) in mm and pixel indices (n, 3) of what lies inside the volume."""
    inside = slab.images[3] > 0.9999
    return slab.images[:3, inside].T, np.argwhere(inside)


spacings = st.tuples(*[st.floats(0.6, 4.0)] * 3)
sizes = st.tuples(*[st.integers(10, 26)] * 3)


@settings(max_examples=25, deadline=None)
@given(sizes, spacings, st.sampled_from(sorted(UPRIGHT)), st.integers(8, 24), st.integers(0, 2), st.booleans())
def test_pixels_lie_where_they_should(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], plane: str, size: int, margin: int, flip: bool
) -> None:
    body = tuple(slice(margin, n - margin) for n in shape)
    wanted = SlabSettings(
        size, (0.9, 0.9), (2.0, 3.0), ((plane, 1.0),), tilt_degrees=0, turn_degrees=0, flip=float(flip)
    )
    slab = cut_slab(ramps(shape, spacing, body), 1, spacing, Middle(np.random.PCG64(0)), wanted)
    assert slab.plane == plane
    direction = UPRIGHT[plane] * [[1], [-1 if flip else 1], [1]]
    sides = np.array([n - 2 * margin for n in shape]) * spacing
    field = 0.9 * max(sides @ np.abs(direction[0]), sides @ np.abs(direction[1]))
    assert slab.spacing == pytest.approx((field / size, field / size, 2.5))
    found, indices = positions(slab)
    every = np.argwhere(np.ones(slab.images.shape[1:], dtype=bool))
    local = (every - [(size - 1) / 2, (size - 1) / 2, 1]) * slab.spacing
    places = np.array(shape) * spacing / 2 + local @ direction
    # Between the outermost voxel centres; a coarse slab may have no pixel there.
    border = np.minimum(places, np.array(shape) * spacing - places) - np.array(spacing) / 2
    assert {tuple(index) for index in every[border.min(1) > 2e-3]} <= {tuple(index) for index in indices}
    np.testing.assert_allclose(found, places[np.ravel_multi_index(tuple(indices.T), slab.images.shape[1:])], atol=2e-3)
    np.testing.assert_array_equal(slab.masks[0], slab.images[3] > 0.5) if margin == 0 else None


@settings(max_examples=25, deadline=None)
@given(spacings, st.sampled_from(sorted(UPRIGHT)), st.integers(0, 10**6), st.booleans())
def test_random_slabs_are_rigid_and_nearly_upright(
    spacing: tuple[float, float, float], plane: str, seed: int, flip: bool
) -> None:
    shape = (20, 24, 18)
    wanted = SlabSettings(16, planes=((plane, 1.0),), flip=float(flip))
    volume = ramps(shape, spacing, (slice(None),) * 3)
    slab = cut_slab(volume, 1, spacing, np.random.default_rng(seed), wanted)
    found, indices = positions(slab)
    centred = np.c_[(indices - indices.mean(0)) * slab.spacing, np.ones(len(indices))]
    if np.linalg.matrix_rank(centred) < 4:
        return  # only a corner of the slab lies inside
    directions, *_ = np.linalg.lstsq(centred, found, rcond=None)
    np.testing.assert_allclose(centred @ directions, found, atol=5e-3)
    np.testing.assert_allclose(directions[:3] @ directions[:3].T, np.eye(3), atol=1e-2)
    upright = UPRIGHT[plane] * [[1], [-1 if flip else 1], [1]]
    assert (directions[:3] * upright).sum(1).min() > np.cos(np.deg2rad(15 + 2 * 8))


def test_random_but_repeatable() -> None:
    shape, spacing = (24, 28, 12), (2.0, 2.0, 4.0)
    volume = ramps(shape, spacing, (slice(None),) * 3)
    before = volume.clone()
    slabs = [cut_slab(volume, 1, spacing, np.random.default_rng(n), SlabSettings(16)) for n in (*range(30), 0)]
    np.testing.assert_array_equal(slabs[0].images, slabs[-1].images)
    assert torch.equal(volume, before)
    assert {slab.plane for slab in slabs} == set(UPRIGHT)
    for slab in slabs:
        field = slab.spacing[0] * 16
        sides = np.abs(UPRIGHT[slab.plane]) @ (np.array(shape) * spacing)
        assert 0.8 <= field / max(sides[:2]) <= 1.35
        assert 2.0 <= slab.spacing[2] <= 5.0
        assert slab.images.shape == (4, 16, 16, 3)
        assert slab.masks.shape == (1, 16, 16, 3)
        assert slab.images[3, ..., 1].any(), "the middle slice shows the body"


def test_the_body_fills_the_field() -> None:
    volume = torch.zeros(2, 40, 40, 10)
    volume[:, 8:20, 24:32] = 1
    wanted = SlabSettings(24, (1.0, 1.0), planes=(("axial", 1.0),), tilt_degrees=0, turn_degrees=0)
    slab = cut_slab(volume, 1, (1.0, 1.0, 3.0), Middle(np.random.PCG64(0)), wanted)
    assert slab.masks[0, :, 12, 1].all()
    assert slab.masks[0, 12, :, 1].sum() == pytest.approx(24 * 8 / 12, abs=1)


def test_warps_are_smooth_and_no_larger_than_asked() -> None:
    shape, spacing = (60, 60, 30), (2.0, 2.0, 3.0)
    volume = ramps(shape, spacing, (slice(8, -8), slice(8, -8), slice(4, -4)))
    plain = SlabSettings(48, planes=(("axial", 1.0),), tilt_degrees=0, turn_degrees=0, flip=0)
    moved = []
    for seed in range(8):
        wanted = replace(plain, warp_mm=(2.0, 2.0))
        slab = cut_slab(volume, 1, spacing, np.random.default_rng(seed), wanted)
        rigid = cut_slab(volume, 1, spacing, np.random.default_rng(seed), plain)
        both = (slab.images[3] > 0.9999) & (rigid.images[3] > 0.9999)
        difference = np.where(both, slab.images[:3] - rigid.images[:3], np.nan)
        moved.append(np.nanstd(difference))
        assert slab.spacing == rigid.spacing
        # No folding: from pixel to pixel the place goes on in the same direction.
        for axis, along in ((0, 0), (1, 1)):
            steps = np.diff(np.where(both, slab.images[along], np.nan), axis=axis)
            assert np.nanmin(steps) > 0
        # The body's mask goes with its images.
        middle = np.abs(slab.images[:2] - 60).max(0) < 40
        assert slab.masks[0][middle & (np.abs(slab.images[2] - 45) < 28) & both].all()
    assert 1.0 < np.mean(moved) < 3.0


def test_stretch_changes_each_axis() -> None:
    volume = ramps((40, 40, 20), (2.0, 2.0, 3.0), (slice(None),) * 3)
    plain = SlabSettings(24, (0.6, 0.6), planes=(("axial", 1.0),), tilt_degrees=0, turn_degrees=0, flip=0)
    factors = []
    for seed in range(6):
        slab = cut_slab(volume, 1, (2.0, 2.0, 3.0), np.random.default_rng(seed), replace(plain, stretch=(0.8, 1.25)))
        shown = [np.median(np.diff(slab.images[axis][..., 1], axis=axis)) for axis in (0, 1)]
        factors.append([slab.spacing[0] / step for step in shown])
    assert np.min(factors) >= 0.79
    assert np.max(factors) <= 1.26
    assert np.ptp(np.array(factors)[:, 0] / np.array(factors)[:, 1]) > 0.1, "the axes differ"


def test_unknown_plane() -> None:
    with pytest.raises(ConfigurationError, match=r"planes=.*oblique.*choose from axial"):
        SlabSettings(planes=(("oblique", 1.0),))


def test_central_slabs_are_cut_where_there_are_places_for_lesions() -> None:
    volume = torch.zeros(3, 24, 24, 40)
    volume[1] = 1  # the body
    volume[2, 4:20, 4:20, 10:20] = 1
    volume[2, 10:12, 10:12, 30:40] = 1  # of little area
    volume[0] = torch.arange(40) / 40
    for share, low, high in ((1.0, 10, 20), (0.0, 0, 40)):
        wanted = SlabSettings(16, planes=(("axial", 1.0),), tilt_degrees=0, turn_degrees=0, central=share)
        slabs = [cut_slab(volume, 2, (1, 1, 1), np.random.default_rng(seed), wanted) for seed in range(40)]
        heights = np.array([40 * slab.images[0, 8, 8, 1] + 0.5 for slab in slabs])
        assert low - 0.6 <= heights.min() < low + 4
        assert high - 4 < heights.max() <= high + 0.6

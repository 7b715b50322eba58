from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.transforms import BodyMaskd, LesionCandidate, LesionCandidates, LesionCandidatesd


def volume_of(values: np.ndarray, affine: np.ndarray | None = None) -> MetaTensor:
    matrix = np.eye(4) if affine is None else affine
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None], affine=matrix)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any orientation, oblique too, and spacing; a shear as of a tilted gantry."""
    angles = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    spacing = np.array(draw(st.tuples(*[st.floats(0.3, 6)] * 3)))
    signs = np.array(draw(st.tuples(*[st.sampled_from([1.0, -1.0])] * 3)))
    shear = np.eye(3)
    shear[1, 2] = draw(st.floats(-0.4, 0.4))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ shear * spacing * signs
    affine[:3, 3] = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    return affine


@settings(max_examples=60, deadline=None)
@given(affines(), st.tuples(*[st.integers(6, 14)] * 3), st.data())
def test_a_planted_blob_is_found_where_it_is(affine, shape, data):
    start = np.array([data.draw(st.integers(0, size - 3)) for size in shape])
    sides = np.array([data.draw(st.integers(1, size - int(first))) for size, first in zip(shape, start, strict=True)])
    values = np.zeros(shape)
    values[tuple(slice(a, a + n) for a, n in zip(start, sides, strict=True))] = 0.7
    peak = start + sides // 2
    values[tuple(peak)] = 0.9
    labels, (found,) = LesionCandidates(min_volume_mm3=0)(volume_of(values, affine))
    centre = start + (sides - 1) / 2
    np.testing.assert_allclose(found.centroid_voxel, centre, atol=1e-9)
    np.testing.assert_allclose(found.centroid_ras_mm, apply_affine(affine, centre), atol=1e-6)
    np.testing.assert_allclose(found.peak_ras_mm, apply_affine(affine, peak), atol=1e-6)
    np.testing.assert_allclose(np.array(found.centroid_lps_mm) * [-1, -1, 1], found.centroid_ras_mm)
    np.testing.assert_allclose(np.array(found.peak_lps_mm) * [-1, -1, 1], found.peak_ras_mm)
    assert found.peak_voxel == tuple(peak)
    assert found.voxels == sides.prod() == int((labels == 1).sum())
    assert found.volume_mm3 == pytest.approx(sides.prod() * abs(np.linalg.det(affine[:3, :3])))
    assert found.bounding_box == tuple((a, a + n) for a, n in zip(start, sides, strict=True))
    assert found.slice_range == (start[2], start[2] + sides[2] - 1)
    assert found.elongation >= 1
    assert 0 < found.sphericity <= 1


def fixed_in_space(found: LesionCandidate) -> list[float]:
    return [found.id, found.voxels, found.volume_mm3, found.peak_score, found.mean_score, *found.centroid_ras_mm,
            *found.peak_ras_mm, found.equivalent_diameter_mm, found.elongation]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(affines(), st.integers(0, 10**6), st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_flips_and_permutations_change_no_candidate(affine, seed, order, flips):
    values = np.random.default_rng(seed).random((7, 9, 6)).round(2)
    finder = LesionCandidates(threshold=0.9, low=0.75, min_volume_mm3=0)
    labels, found = finder(volume_of(values, affine))
    turned, to_old = np.transpose(values, order), np.eye(4)[:, [*order, 3]]
    for axis, flipped in enumerate(flips):
        if flipped:
            turned, back = np.flip(turned, axis), np.eye(4)
            back[axis, axis], back[axis, 3] = -1, turned.shape[axis] - 1
            to_old = to_old @ back
    other_labels, other = finder(volume_of(turned, affine @ to_old))
    assert len(found) == len(other) > 0
    here, there = (np.array([fixed_in_space(candidate) for candidate in side]) for side in (found, other))
    np.testing.assert_allclose(here, there, rtol=1e-6, atol=1e-5)
    expected = np.transpose(labels[0].numpy(), order)
    expected = np.flip(expected, tuple(axis for axis, flipped in enumerate(flips) if flipped))
    np.testing.assert_array_equal(other_labels[0].numpy(), expected)


def test_lps_volumes_have_the_same_places():
    values = np.zeros((8, 8, 8))
    values[1:4, 2:6, 3:7] = 1
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    as_lps = volume_of(values, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
    as_lps.meta["space"] = "LPS"
    _, (found,) = LesionCandidates()(as_lps)
    assert found.centroid_ras_mm == (2.0, 7.0, 13.5)
    assert found.centroid_lps_mm == (-2.0, -7.0, 13.5)


def blobs() -> np.ndarray:
    """Four boxes from small to large: 8, 27, 64 and 2 voxels; the first holds the highest value."""
    values = np.zeros((24, 24, 12))
    values[2:4, 2:4, 2:4] = 0.6
    values[2, 2, 2] = 0.95
    values[8:11, 8:11, 4:7] = 0.8
    values[15:19, 15:19, 6:10] = 0.8
    values[20:22, 3, 3] = 0.7
    return values


def test_most_suspicious_first():
    labels, found = LesionCandidates(min_volume_mm3=0)(volume_of(blobs()))
    assert [candidate.voxels for candidate in found] == [8, 64, 27, 2]
    assert [candidate.id for candidate in found] == [1, 2, 3, 4]
    assert found[0].mean_score == pytest.approx((7 * 0.6 + 0.95) / 8)
    assert [int(labels[0][candidate.peak_voxel]) for candidate in found] == [1, 2, 3, 4]
    assert labels.dtype == torch.uint8


def test_equal_candidates_are_ordered_by_place():
    values = np.zeros((9, 9, 9))
    values[[1, 1, 5, 7], [7, 3, 1, 1], [2, 2, 6, 2]] = 0.9
    _, found = LesionCandidates(min_volume_mm3=0)(volume_of(values, np.diag([-1.0, 1.0, 1.0, 1.0])))
    assert [candidate.peak_voxel for candidate in found] == [(7, 1, 2), (5, 1, 6), (1, 3, 2), (1, 7, 2)]


@pytest.mark.parametrize(
    ("kwargs", "voxels"),
    [
        ({"min_volume_mm3": 27}, [64, 27]),
        ({"min_volume_mm3": 27.5}, [64]),
        ({"min_volume_mm3": 0, "threshold": 0.9}, [1]),
        ({"min_volume_mm3": 0, "threshold": 0.9, "low": 0.5}, [8]),
        ({"min_volume_mm3": 0, "max_candidates": 2}, [8, 64]),
        ({"min_volume_mm3": 0, "threshold": 0.95}, []),
        ({"min_volume_mm3": 0, "method": "quantile", "threshold": 0.99}, [1]),
        ({"min_volume_mm3": 0, "method": "quantile", "threshold": 0.99, "low": 0.05}, [1]),
    ],
)
def test_thresholds_and_sizes(kwargs, voxels):
    labels, found = LesionCandidates(**kwargs)(volume_of(blobs()))
    assert [candidate.voxels for candidate in found] == voxels
    assert [int((labels == number).sum()) for number in range(1, len(voxels) + 1)] == voxels
    assert int(labels.max()) == len(voxels)


def test_quantile_of_the_body_alone():
    values = np.linspace(0.01, 1, 1000).reshape(10, 10, 10)
    body = torch.zeros(1, 10, 10, 10)
    body[:, :5] = 1
    finder = LesionCandidates(0.9, "quantile", min_volume_mm3=0)
    assert sum(candidate.voxels for candidate in finder(volume_of(values))[1]) == 100
    _, found = finder(volume_of(values), body)
    assert sum(candidate.voxels for candidate in found) == 50
    assert found[0].peak_voxel == (4, 9, 9)


def test_outside_of_the_body_and_near_its_border_nothing_is_found():
    values = blobs()
    body = torch.zeros(1, 24, 24, 12)
    body[:, 7:20, 7:20] = 1
    _, found = LesionCandidates()(volume_of(values), body)
    assert [candidate.voxels for candidate in found] == [64, 27]
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    _, found = LesionCandidates(border_mm=2)(volume_of(values, affine), body)
    # Two voxels from each side of the body, one from the first and last slice.
    assert [candidate.bounding_box for candidate in found] == [
        ((15, 18), (15, 18), (6, 10)),
        ((9, 11), (9, 11), (4, 7)),
    ]
    values[:] = 1
    _, (whole,) = LesionCandidates(border_mm=2)(volume_of(values, affine))
    assert whole.bounding_box == ((2, 22), (2, 22), (1, 11))


def test_shapes():
    grid = np.indices((30, 30, 30)) - 14.5
    ball = (grid**2).sum(0) < 10**2
    rod = (abs(grid[0]) < 2) & (abs(grid[1]) < 2)
    (of_ball,), (of_rod,) = (LesionCandidates()(volume_of(shape))[1] for shape in (ball, rod))
    assert of_ball.equivalent_diameter_mm == pytest.approx(20, rel=0.02)
    assert of_ball.elongation == pytest.approx(1, abs=1e-6)
    assert of_ball.sphericity > 0.9
    assert of_rod.elongation == pytest.approx(30 / 4)
    assert of_rod.sphericity < 0.7
    stretched = volume_of(ball, np.diag([1.0, 1.0, 3.0, 1.0]))
    assert LesionCandidates()(stretched)[1][0].elongation == pytest.approx(3, rel=0.01)


def test_many_candidates_need_wider_labels():
    values = np.zeros((20, 20, 20))
    values[::2, ::2, ::2] = np.linspace(0.6, 1, 1000).reshape(10, 10, 10)
    labels, found = LesionCandidates(min_volume_mm3=0)(volume_of(values))
    assert len(found) == 1000
    assert labels.dtype == torch.uint16
    assert np.array_equal(np.unique(labels.numpy()), np.arange(1001))


def test_nothing_suspicious():
    for values in (np.zeros((4, 4, 4)), np.full((4, 4, 4), 0.5)):
        for method in ("fixed", "quantile"):
            labels, found = LesionCandidates(0.5, method)(volume_of(values))
            assert not found
            assert not labels.any()
            assert labels.shape == (1, 4, 4, 4)


def test_candidates_are_plain_data_for_json():
    _, (first, *_) = LesionCandidates()(volume_of(blobs(), np.diag([-0.7, 0.9, 3.3, 1.0])))
    entry = first.as_dict()
    assert json.loads(json.dumps(entry)) == entry
    assert entry["bounding_box"] == [[2, 4], [2, 4], [2, 4]]
    with pytest.raises(FrozenInstanceError):
        first.id = 2  # type: ignore[misc]  # it shall fail


def test_dictionary_form():
    scan = np.zeros((24, 24, 12))
    scan[7:20, 7:20] = 100
    data: dict[Hashable, Any] = {"pred": volume_of(blobs()), "image": volume_of(scan)}
    before = data["pred"].clone()
    out = LesionCandidatesd("pred", body_key="mask_image")(BodyMaskd("image")(data))
    assert set(out) == {"pred", "image", "mask_image", "pred_labels", "pred_candidates"}
    assert [candidate.voxels for candidate in out["pred_candidates"]] == [64, 27]
    assert torch.equal(out["pred_labels"].affine, before.affine)
    assert torch.equal(data["pred"], before)
    score = torch.rand(1, 24, 24, 12)
    two = MetaTensor(torch.cat([before.as_tensor(), score]), affine=before.affine)
    assert LesionCandidatesd("pred")({"pred": two})["pred_candidates"] == LesionCandidates()(before)[1]


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"method": "otsu"}, "method"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": 1.5, "method": "quantile"}, "threshold"),
        ({"low": 0.6}, "low"),
        ({"min_volume_mm3": -1}, "min_volume_mm3"),
        ({"border_mm": float("inf")}, "border_mm"),
        ({"max_candidates": 0}, "max_candidates"),
    ],
)
def test_bad_arguments(kwargs, named):
    with pytest.raises(ConfigurationError, match=named):
        LesionCandidates(**kwargs)
    with pytest.raises(ConfigurationError, match=named):
        LesionCandidatesd("pred", **kwargs)


def test_bad_input():
    with pytest.raises(InputError, match="same grid"):
        LesionCandidates()(volume_of(blobs()), torch.ones(1, 2, 2, 2))
    with pytest.raises(InputError, match="NaN"):
        LesionCandidates()(volume_of(np.full((3, 3, 3), np.nan)))
    with pytest.raises(InputError, match="affine"):
        LesionCandidates()(volume_of(blobs(), np.zeros((4, 4))))
    with pytest.raises(InputError, match="body_key='body'"):
        LesionCandidatesd("pred", body_key="body")({"pred": volume_of(blobs())})
    values = np.zeros((84, 84, 80))
    values[::2, ::2, ::2] = 1
    with pytest.raises(InputError, match="70560 candidates"):
        LesionCandidates(min_volume_mm3=0)(volume_of(values))

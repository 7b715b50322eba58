"""Figures of lesion finding against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from monai.metrics import compute_average_precision, compute_roc_auc
from torch import from_numpy

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import lesion_froc, rank_voxels, slice_scores


def test_ranking_by_hand():
    # From the top: lesion, normal, lesion, normal, normal.
    found = rank_voxels(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), np.array([1, 0, 1, 0, 0]))
    assert found.auroc == pytest.approx(5 / 6)
    assert found.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert found.best_dice == pytest.approx(2 * 2 / (3 + 2))
    assert found.best_threshold == 3.0


def test_equal_scores_are_not_told_apart():
    found = rank_voxels(np.zeros(10), np.arange(10) < 3)
    assert found.auroc == pytest.approx(0.5)
    assert found.average_precision == pytest.approx(0.3)
    assert found.best_dice == pytest.approx(2 * 3 / (10 + 3))


def test_ranking_is_that_of_monai_where_no_scores_are_equal():
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=200) < 0.2
    scores = rng.normal(size=200) + truth
    found = rank_voxels(scores, truth)
    pair = from_numpy(scores), from_numpy(truth.astype(np.float64))
    assert found.auroc == pytest.approx(compute_roc_auc(*pair), abs=1e-6)
    assert found.average_precision == pytest.approx(compute_average_precision(*pair), abs=1e-6)


def test_ranking_ignores_a_monotone_change():
    rng = np.random.default_rng(1)
    scores, truth = rng.uniform(size=(4, 5, 6)), rng.uniform(size=(4, 5, 6)) < 0.3
    assert rank_voxels(scores, truth)[:3] == pytest.approx(rank_voxels(np.exp(3 * scores), truth)[:3])


@pytest.mark.parametrize("truth", [np.zeros(3), np.ones(3)])
def test_ranking_of_one_kind_alone_is_nan(truth):
    assert np.isnan(rank_voxels(np.arange(3.0), truth)).all()


def test_ranking_refuses_what_does_not_fit():
    with pytest.raises(ConfigurationError, match="shape"):
        rank_voxels(np.zeros(3), np.zeros(4))
    with pytest.raises(ConfigurationError, match="finite"):
        rank_voxels(np.array([0.0, np.nan]), np.array([0, 1]))


def test_slices_without_enough_body_are_left_out():
    anomaly = np.broadcast_to(np.arange(4.0), (10, 10, 4)).copy()
    anomaly[0, 0] = 9
    body = np.zeros((10, 10, 4))
    body[..., 2:] = 1
    body[0, :2, 1] = 1
    indices, scores = slice_scores(anomaly, body)
    assert indices.tolist() == [1, 2, 3]
    assert scores.tolist() == [9, 9, 9]
    indices, scores = slice_scores(anomaly, body, quantile=0.5, min_fraction=0.02)
    assert (indices.tolist(), scores.tolist()) == ([1, 2, 3], [5.0, 2.0, 3.0])
    assert slice_scores(anomaly, body, min_fraction=0.03)[0].tolist() == [2, 3]


def cube(array: np.ndarray, corner: tuple[int, int, int], value: float, side: int = 3) -> None:
    array[tuple(slice(start, start + side) for start in corner)] = value


def volume_with_candidates() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two lesions of 27 voxels, found at 0.9 and 0.5, false candidates at 0.8 and 0.3, in a body of 4000 voxels."""
    anomaly, truth = np.zeros((2, 20, 20, 10))
    cube(truth, (1, 1, 1), 1)
    cube(truth, (10, 10, 5), 1)
    cube(anomaly, (1, 1, 1), 0.9)
    cube(anomaly, (1, 10, 1), 0.8)
    cube(anomaly, (10, 10, 5), 0.5)
    cube(anomaly, (15, 2, 5), 0.3)
    return anomaly, truth, np.ones((20, 20, 10))


FRACTIONS = [n * 27 / 4000 - 1e-4 for n in (1, 2, 3, 4)]


def test_free_response_by_hand():
    found = lesion_froc(*volume_with_candidates(), fractions=FRACTIONS)
    assert found.lesions == 2
    assert found.thresholds.tolist() == [0.9, 0.8, 0.5, 0.3]
    assert found.sensitivity.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert found.false_positives.tolist() == [0, 1, 1, 2]
    assert [found.at(n) for n in (0, 0.5, 1, 8)] == [0.5, 0.5, 1.0, 1.0]


def test_a_region_over_everything_finds_nothing():
    anomaly, truth, body = volume_with_candidates()
    found = lesion_froc(np.zeros_like(anomaly), truth, body)
    assert found.sensitivity.tolist() == [0]
    assert found.false_positives.tolist() == [1]
    assert found.at(0) == 0


def test_small_specks_are_no_candidates_and_what_lies_outside_the_body_does_not_count():
    anomaly, truth, body = volume_with_candidates()
    speck = np.where(anomaly == 0.8, 0, anomaly)
    cube(speck, (1, 10, 1), 0.8, side=2)
    assert lesion_froc(speck, truth, body, fractions=FRACTIONS).false_positives.max() == 1
    assert lesion_froc(speck, truth, body, fractions=FRACTIONS, min_voxels=8).false_positives.max() == 2
    without = np.where(anomaly == 0.8, 0, body)
    assert lesion_froc(anomaly, truth, without, fractions=FRACTIONS).at(0) == 1.0
    without = np.where(np.arange(20)[:, None, None] > 9, 0, body)
    assert lesion_froc(anomaly, truth, without, fractions=FRACTIONS).lesions == 1


def test_specks_of_truth_need_not_be_found_and_are_not_false():
    anomaly, truth, body = volume_with_candidates()
    truth[1:4, 10:13, 1:4] = 0
    truth[2, 11, 2:4] = 1
    cube(truth, (17, 17, 7), 1, side=1)
    found = lesion_froc(anomaly, truth, body, fractions=FRACTIONS, min_overlap=0.05)
    assert (found.lesions, found.at(0)) == (4, 0.75)
    found = lesion_froc(anomaly, truth, body, fractions=FRACTIONS, min_overlap=0.05, min_lesion=3)
    assert (found.lesions, found.at(0)) == (2, 1.0)
    with pytest.raises(ConfigurationError, match="28 voxels"):
        lesion_froc(anomaly, truth, body, min_lesion=28)


def test_lesions_joined_by_a_corner_are_one():
    anomaly, truth = np.zeros((2, 9, 9, 9))
    cube(truth, (0, 0, 0), 1)
    cube(truth, (3, 3, 3), 1)
    cube(anomaly, (0, 0, 0), 1)
    found = lesion_froc(anomaly, truth, np.ones_like(truth), fractions=[0.03])
    assert (found.lesions, found.at(0)) == (1, 1.0)


def test_free_response_refuses_what_does_not_fit():
    anomaly, truth, body = volume_with_candidates()
    with pytest.raises(ConfigurationError, match="shapes"):
        lesion_froc(anomaly[1:], truth, body)
    with pytest.raises(ConfigurationError, match="no lesion"):
        lesion_froc(anomaly, np.zeros_like(truth), body)

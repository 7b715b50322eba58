"""Figures of lesion finding against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import lesion_froc, pooled_froc


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
    with pytest.warns(UserWarning, match="28 voxels"):
        assert lesion_froc(anomaly, truth, body, min_lesion=28).lesions == 0


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
    with pytest.raises(ConfigurationError, match="body is empty"):
        lesion_froc(anomaly, truth, np.zeros_like(body))
    with pytest.raises(ConfigurationError, match="both given"):
        lesion_froc(anomaly, truth, body, fractions=[0.1], thresholds=[0.5])


def test_no_lesion_is_nan_with_a_warning_and_false_candidates_count():
    anomaly, truth, body = volume_with_candidates()
    with pytest.warns(UserWarning, match="no lesion"):
        found = lesion_froc(anomaly, np.zeros_like(truth), body, fractions=FRACTIONS)
    assert np.isnan(found.sensitivity).all()
    assert found.false_positives.tolist() == [1, 2, 3, 4]
    with pytest.warns(UserWarning, match="no lesion to find"):
        assert np.isnan(found.at(1))
    with pytest.warns(UserWarning, match="no lesion to find"):
        assert np.isnan(found.mean_sensitivity())


def test_many_volumes_by_hand():
    anomaly, truth, body = volume_with_candidates()
    thresholds = [0.3, 0.9, 0.5, 0.8]
    first = lesion_froc(anomaly, truth, thresholds=thresholds)
    with pytest.warns(UserWarning, match="no lesion"):
        normal = lesion_froc(np.where(anomaly > 0.6, anomaly, 0), np.zeros_like(truth), body, thresholds=thresholds)
    missed = lesion_froc(0 * anomaly, truth, body, thresholds=thresholds)
    found = pooled_froc([first, normal, missed])
    assert (found.lesions, found.volumes) == (4, 3)
    assert found.thresholds.tolist() == [0.9, 0.8, 0.5, 0.3]
    assert found.sensitivity.tolist() == [0.25, 0.25, 0.5, 0.5]
    assert found.false_positives.tolist() == pytest.approx([1 / 3, 1, 1, 4 / 3])
    assert [found.at(n) for n in (0.2, 0.5, 1)] == [0, 0.25, 0.5]
    assert found.mean_sensitivity((0.2, 0.5, 1)) == pytest.approx(0.25)
    assert pooled_froc([pooled_froc([first, normal]), missed]).at(1) == 0.5
    with pytest.raises(ConfigurationError, match="same thresholds"):
        pooled_froc([first, lesion_froc(anomaly, truth)])
    with pytest.raises(ConfigurationError, match="0 curves"):
        pooled_froc([])

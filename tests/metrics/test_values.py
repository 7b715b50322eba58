"""Scores that are not finite: every figure is NaN, and one warning says how many there are and where."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import (
    ScoreCalibrationMetric,
    aupro,
    aupro_released,
    auroc,
    average_precision,
    bootstrap_interval,
    dice_max,
    expected_calibration_error,
    f1_max,
    histogram_curve,
    lesion_froc,
    pooled_froc,
    ranking_curve,
    score_histograms,
    slice_scores,
)
from monai_zsad.metrics.curves import RANKING_METRICS
from monai_zsad.metrics.ranking import curve_of
from monai_zsad.metrics.values import not_finite_by_index, why_undefined
from tests.metrics.reference import random_set

PLAIN: dict[str, Callable[[Any, Any], Any]] = {
    "auroc": auroc,
    "average precision": average_precision,
    "F1-max": f1_max,
    "AUPRO": aupro,
    "AUPRO as released": aupro_released,
    "Dice-max": dice_max,
    "calibration": expected_calibration_error,
}


def broken_set(value: float, number: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Four images, of which the last is normal; three pixels of one are not finite."""
    maps, masks = random_set(4, 16, 0)
    maps[number, 3, 4:7] = value
    return maps, masks


def warned(call: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, str]:
    """What a call gives, and what it warns of: once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = call(*args, **options)
    assert len(caught) == 1, [str(one.message) for one in caught]
    assert issubclass(caught[0].category, UserWarning)
    return found, str(caught[0].message)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("number", [2, 3])
def test_figures_are_nan_with_one_warning(name: str, value: float, number: int) -> None:
    maps, masks = broken_set(value, number)
    assert np.isfinite(PLAIN[name](*random_set(4, 16, 0))).all()
    for form in (np.asarray, list, torch.from_numpy):
        found, said = warned(PLAIN[name], form(maps), form(masks))
        assert np.isnan(found).all()
        assert f"is NaN: scores hold 3 values that are not finite (3 at index {number})" in said


@pytest.mark.parametrize("name", [name for name in PLAIN if name not in ("AUPRO", "AUPRO as released", "Dice-max")])
def test_scores_of_images_are_named_by_their_index(name: str) -> None:
    scores = [0.1, math.nan, 0.3, math.inf]
    found, said = warned(PLAIN[name], scores, [0, 1, 0, 1])
    assert np.isnan(found).all()
    assert "hold 2 values that are not finite (1 at index 1, 1 at index 3)" in said


def test_a_curve_knows_that_it_is_undefined_and_has_no_number() -> None:
    maps, masks = broken_set(math.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = ranking_curve(maps, masks, regions=True)
        assert not curve.defined
        assert ranking_curve(*random_set(4, 16, 0)).defined
    for name in RANKING_METRICS:
        found, said = warned(curve.value, name)
        assert math.isnan(found)
        assert "3 at index 2" in said
        both, said = warned(curve.bounds, name)
        assert np.isnan(both).all()
        assert "3 at index 2" in said
    assert np.isnan(curve.roc()[1][1:-1]).all()
    assert np.isnan(curve.precision_recall()).all()
    assert not curve_of(np.array([0.1, math.inf]), np.array([0.2])).defined


def test_histograms_of_a_broken_image_are_nan_and_so_is_every_sum_with_them() -> None:
    histograms, said = warned(score_histograms, *broken_set(math.inf), bins=32)
    assert "3 at index 2" in said
    assert np.isnan(histograms[2]).all()
    assert np.isfinite(histograms[[0, 1, 3]]).all()
    assert histogram_curve(histograms[[0, 1, 3]].sum(0)).defined
    for name in RANKING_METRICS:
        found, said = warned(histogram_curve(histograms.sum(0)).bounds, name)
        assert np.isnan(found).all()
        assert "not finite" in said


def test_resamples_that_hold_a_broken_image_are_undefined() -> None:
    maps, masks = broken_set(math.nan)
    for number in (0, 1, 2, 3):
        share = {2: 1.0}.get(number, 0.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = bootstrap_interval(auroc, maps, masks, resamples=10, strata=range(4))
            assert (found.undefined, math.isnan(found.low), math.isnan(found.high)) == (1.0, True, True)
            alone = bootstrap_interval(auroc, maps[[0, number]], masks[[0, number]], resamples=10, strata=range(2))
        assert alone.undefined == share
        assert math.isnan(alone.value) == math.isnan(alone.low) == bool(share)


def test_no_interval_surrounds_what_is_nan() -> None:
    """Some seeds leave the broken image out of most resamples."""
    scores = np.array([0.1, 0.2, 0.8, 0.9, math.nan, 0.4])
    seen = []
    for seed in range(10):
        with pytest.warns(UserWarning, match="the interval is NaN|not finite"):
            found = bootstrap_interval(np.mean, scores, resamples=10, seed=seed)
        seen.append(found.undefined)
        assert np.isnan(found[:3]).all()
    assert min(seen) <= 0.5


@pytest.mark.parametrize("given_", [{"thresholds": [0.2, 0.7]}, {"fractions": [0.1, 0.2]}, {}])
def test_lesions_of_a_broken_map_are_counted_but_not_found(given_: dict[str, Any]) -> None:
    anomaly, truth = np.zeros((2, 9, 9, 9))
    anomaly[1:4, 1:4, 1:4] = truth[1:4, 1:4, 1:4] = 1
    whole = lesion_froc(anomaly, truth, **given_)
    anomaly[8, 8, 8] = math.nan
    body = np.ones(anomaly.shape)
    body[8] = 0  # not even outside the body
    found, said = warned(lesion_froc, anomaly, truth, body, **given_)
    assert said.startswith("sensitivity is NaN: scores hold 1 values that are not finite: ")
    assert (found.lesions, found.volumes) == (1, 1)
    assert np.isnan([found.sensitivity, found.false_positives]).all()
    assert math.isnan(warned(found.at, 1)[0])
    assert math.isnan(warned(found.mean_sensitivity)[0])
    if "thresholds" in given_:
        pooled = pooled_froc([whole, found, whole])
        assert (pooled.lesions, pooled.volumes) == (3, 3)
        assert np.isnan([pooled.sensitivity, pooled.false_positives]).all()
        assert "index 1: scores hold 1 values" in warned(pooled.at, 8)[1]
        assert pooled_froc([whole, whole]).at(1) == 1
    else:
        assert np.isnan(found.thresholds).all()


def test_a_calibration_table_is_nan_but_what_is_no_probability_is_refused() -> None:
    metric = ScoreCalibrationMetric(4)
    metric(torch.tensor([0.1, math.nan]), torch.tensor([0, 1]))
    table = metric.table()
    assert np.isnan(table[:3]).all()
    assert "1 at index 1" in table.undefined
    with pytest.raises(ConfigurationError, match="within"):
        expected_calibration_error([1.5, math.nan], [0, 1])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_slices_that_are_not_finite_inside_the_body_have_no_score(value: float) -> None:
    anomaly, body = np.zeros((4, 4, 3)), np.ones((4, 4, 3))
    anomaly[0, 0, 1] = anomaly[0, 0, 2] = value
    body[0, :, 2] = 0
    for quantile in (0.5, 1.0):
        np.testing.assert_array_equal(slice_scores(anomaly, body, quantile)[1], [0, math.nan, 0])


@pytest.mark.parametrize("name", PLAIN)
def test_truth_that_is_nan_and_shapes_that_differ_stay_refused(name: str) -> None:
    maps, masks = broken_set(math.nan)
    with pytest.raises(ConfigurationError, match="truth holds"):
        PLAIN[name](maps, np.where(masks, np.nan, 0.0))
    with pytest.raises(ConfigurationError, match=r"same shape|a mask for each"):
        PLAIN[name](maps, masks[:, 1:])


def test_many_places_are_not_all_named() -> None:
    assert why_undefined({"index 0": 0}) == why_undefined({}) == ""
    by_index = {f"index {n}": 2 for n in range(30)}
    for found in (by_index, not_finite_by_index(np.full((30, 2), np.nan))):
        said = why_undefined(found)
        assert "hold 60 values" in said
        assert "(2 at index 0, 2 at index 1, 2 at index 2, 2 at index 3, 2 at index 4, 50 elsewhere)" in said
    assert not_finite_by_index(np.array(math.nan)) == {"index 0": 1}
    assert not_finite_by_index(np.zeros((0, 3))) == not_finite_by_index(np.arange(3)) == {}

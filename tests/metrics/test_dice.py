"""Best mean Dice of one threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import DiceMaxMetric, dice_max, f1_max


def random_volumes(seed, levels=0):
    rng = np.random.default_rng(seed)
    shapes = [(3, 4, 5), (2, 6, 3), (4, 4, 4)]
    masks = [rng.random(shape) < share for shape, share in zip(shapes, (0.1, 0.4, 0), strict=True)]
    masks[0][0, 0, 0] = True
    maps = [rng.random(mask.shape) / 2 + mask * rng.random() / 2 for mask in masks]
    return [np.round(one * levels) / levels for one in maps] if levels else maps, masks


def mean_dice(maps, masks, threshold):
    found = [
        2 * ((one >= threshold) & mask).sum() / ((one >= threshold).sum() + mask.sum())
        for one, mask in zip(maps, masks, strict=True)
        if mask.any()
    ]
    return np.mean(found)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0, 4, 20]))
def test_it_is_the_best_of_all_thresholds(seed, levels):
    maps, masks = random_volumes(seed, levels)
    thresholds = np.unique(np.concatenate([one.ravel() for one in maps]))
    found = dice_max(maps, masks)
    assert found.value == pytest.approx(max(mean_dice(maps, masks, one) for one in thresholds), abs=1e-12)
    assert mean_dice(maps, masks, found.threshold) == pytest.approx(found.value, abs=1e-12)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([1, 5, 40, 8192]))
def test_histograms_reach_their_value_and_bound_the_exact_one(seed, bins):
    maps, masks = random_volumes(seed)
    metric = DiceMaxMetric(bins)
    metric(*([torch.from_numpy(one)[None] for one in part] for part in (maps, masks)))
    found, (low, high) = metric.best(), metric.bounds()
    assert mean_dice(maps, masks, found.threshold) == pytest.approx(found.value, abs=1e-12)
    assert low == found.value == metric.aggregate()
    assert low - 1e-12 <= dice_max(maps, masks).value <= high + 1e-12


def test_one_volume_alone_is_f1_and_volumes_weigh_alike():
    maps, masks = random_volumes(0)
    assert dice_max(maps[:1], masks[:1]) == pytest.approx(f1_max(maps[0], masks[0]))
    small, large = 0.5 + 0.4 * np.eye(2)[None], np.full((10, 10, 10), 0.1)
    found = dice_max([small, large], [small > 0.5, large > 0])
    assert found.value == pytest.approx((2 * 2 / 6 + 1) / 2)
    assert found.threshold == 0.1


def test_nothing_anomalous_is_nan_with_a_warning():
    maps, masks = random_volumes(0)
    with pytest.warns(UserWarning, match="Dice-max needs something anomalous"):
        assert np.isnan(dice_max(maps[2:], masks[2:])).all()
    metric = DiceMaxMetric(8)
    metric(torch.rand(2, 1, 3, 3), torch.zeros(2, 1, 3, 3))
    with pytest.warns(UserWarning, match="Dice-max needs something anomalous"):
        assert math.isnan(metric.aggregate())
    with pytest.warns(UserWarning, match="Dice-max needs something anomalous"):
        assert np.isnan(metric.bounds()).all()


def test_mistakes():
    with pytest.raises(ConfigurationError, match="at least one bin"):
        DiceMaxMetric(0)

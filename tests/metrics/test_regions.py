"""AUPRO against slow references, and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import PixelRankingMetric, aupro, aupro_released, ranking_curve, region_shares
from tests.metrics.reference import random_set, released_aupro, slow_aupro, threshold_points


def exact_by_definition(maps, masks, limit):
    """Every score a threshold, each region looked at by itself."""
    from skimage.measure import label

    rates, overlaps = [0.0], [0.0]
    regions = [
        (number, label(mask) == region)
        for number, mask in enumerate(masks)
        for region in range(1, label(mask).max() + 1)
    ]
    for threshold in np.unique(maps)[::-1]:
        above = maps >= threshold
        rates.append(above[masks == 0].mean())
        overlaps.append(np.mean([above[number][region].mean() for number, region in regions]))
    fine = np.unique([*[rate for rate in rates if rate < limit], limit])
    area = 0.0
    for left, right in itertools.pairwise(fine):
        # Values at the ends from within: of equal rates the last on the left, the first on the right.
        k = max(n for n, rate in enumerate(rates) if rate <= left)
        slope = (overlaps[k + 1] - overlaps[k]) / (rates[k + 1] - rates[k])
        area += (right - left) * (overlaps[k] + slope * ((left + right) / 2 - rates[k]))
    return area / limit


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.3, 0.77, 1.0]), st.sampled_from([3, 8, 1000]))
def test_it_is_the_definition(seed, limit, levels):
    rng = np.random.default_rng(seed)
    masks = rng.random((3, 6, 7)) < 0.2
    masks[0, 0, 0], masks[0, 5, 6] = True, False
    maps = np.round(rng.random(masks.shape) * levels) / levels
    wanted = exact_by_definition(maps, masks, limit)
    assert aupro(maps, masks, limit) == pytest.approx(wanted, abs=1e-12)
    assert ranking_curve(maps, masks, regions=True).aupro(limit) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_200_thresholds_within_their_step(seed, limit):
    maps, masks = random_set(8, 48, seed)
    slow, step = slow_aupro(threshold_points(maps, masks, label_once=True), limit)
    assert step < 0.05
    assert abs(aupro(maps, masks, limit) - slow) <= step


@pytest.mark.parametrize("seed", range(3))
def test_the_released_form_is_that_of_the_releases(seed):
    maps, masks = random_set(6, 40, seed)
    points = threshold_points(maps, masks, 200)
    assert aupro_released(maps, masks) == pytest.approx(released_aupro(points), abs=1e-9)
    points = threshold_points(maps, masks, 37)
    assert aupro_released(maps, masks, 0.1, 37) == pytest.approx(released_aupro(points, 0.1), abs=1e-9)


def test_a_small_region_weighs_as_much_as_a_large_one():
    masks = np.zeros((1, 20, 20), dtype=int)
    masks[0, :10, :10] = 1
    masks[0, 15, 15] = 1
    assert aupro(masks * (np.arange(20) < 12), masks) == pytest.approx(0.5 + 0.5 * 0.15)
    assert aupro(masks * (np.arange(20) > 12), masks) == pytest.approx(0.5 + 0.5 * 0.15)


def test_regions_of_planes_and_of_space():
    """Two slices of one lesion: two regions as images, one as a volume; corners join both."""
    masks = np.zeros((2, 4, 4), dtype=int)
    masks[0, :2, :2] = 1
    masks[1, 2, 2] = 1
    assert ranking_curve(masks, masks, regions=True).regions == 2
    assert ranking_curve([masks], [masks], regions=True).regions == 1
    assert region_shares(masks > 0).tolist() == pytest.approx([0.2] * 5)
    maps = np.where(masks, np.array([1.0, 0.0])[:, None, None], 0.5)
    assert aupro(maps, masks, 1.0) == pytest.approx(0.5)
    assert aupro([maps], [masks], 1.0) == pytest.approx(0.8)
    for shape, regions in ((masks[:, None], 2), (masks[None, None], 1)):
        metric = PixelRankingMetric("aupro")
        metric(torch.from_numpy(maps.reshape(shape.shape)), torch.from_numpy(shape))
        assert metric.curve().regions == regions


def test_regions_below_everything_normal_score_nothing_up_to_the_limit():
    masks = np.zeros((1, 10, 10), dtype=int)
    masks[0, :2, :2] = 1
    maps = np.arange(100.0).reshape(1, 10, 10) * (1 - masks)
    assert aupro(maps, masks) == ranking_curve(maps, masks, regions=True).aupro() == 0.0
    assert aupro(-maps - masks, masks, 1.0) == 1 - aupro(maps + masks, masks, 1.0) > 0.9


def test_images_may_differ_in_shape_and_be_tensors():
    maps, masks = random_set(4, 30, 5)
    apart = [maps[0], maps[1, :20], maps[2], maps[3]], [masks[0], masks[1, :20], masks[2], masks[3]]
    assert aupro(*apart) == aupro(
        [torch.from_numpy(one) for one in apart[0]], [torch.from_numpy(one) for one in apart[1]]
    )
    assert aupro(maps, masks) == aupro(torch.from_numpy(maps), torch.from_numpy(masks))
    order = [2, 0, 3, 1]
    assert aupro(maps, masks) == pytest.approx(aupro(maps[order], masks[order]), abs=1e-12)


def test_monotone_changes_change_nothing():
    maps, masks = random_set(4, 30, 6)
    assert aupro(maps, masks) == pytest.approx(aupro(np.exp(3 * maps.astype(np.float64)) - 7, masks), abs=1e-12)


@pytest.mark.parametrize("form", [aupro, aupro_released])
@pytest.mark.parametrize("value", [0, 1])
def test_one_kind_alone_is_nan_with_a_warning(form, value):
    with pytest.warns(UserWarning, match="AUPRO needs normal and anomalous"):
        assert math.isnan(form(np.random.default_rng(0).random((2, 5, 5)), np.full((2, 5, 5), value)))


def test_too_few_thresholds_are_nan_with_a_warning():
    maps = np.full((1, 10, 10), 0.5)
    maps[0, 0, 0] = 1
    with pytest.warns(UserWarning, match="fewer than two false positive rates"):
        assert math.isnan(aupro_released(maps, np.eye(10)[None]))


def test_mistakes():
    maps, masks = random_set(2, 20, 0)
    for limit in (0, 1.2, float("nan")):
        with pytest.raises(ConfigurationError, match="limit"):
            aupro(maps, masks, limit)
        with pytest.raises(ConfigurationError, match="limit"):
            aupro_released(maps, masks, limit)
    for form in (aupro, aupro_released):
        with pytest.raises(ConfigurationError, match="a mask for each"):
            form(maps, masks[:1])
        with pytest.raises(ConfigurationError, match="volumes"):
            form(maps[0, 0], masks[0, 0])
    with pytest.raises(ConfigurationError, match="regions=True"):
        ranking_curve(maps, masks).aupro()
    with pytest.raises(ConfigurationError, match="empty"):
        aupro([], [])

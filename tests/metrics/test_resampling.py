"""Bootstrap intervals and figures by class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import (
    aupro,
    auroc,
    bootstrap_interval,
    histogram_curve,
    lesion_froc,
    pooled_froc,
    score_histograms,
)
from tests.metrics.reference import random_set


def sample(seed, count=80):
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.5
    return rng.normal(size=count) + truth, truth


def test_it_is_that_of_scipy():
    scores, truth = sample(0)
    found = bootstrap_interval(auroc, scores, truth, resamples=3000)
    other = bootstrap(
        (np.arange(80),),
        lambda drawn: auroc(scores[drawn], truth[drawn]),
        vectorized=False,
        n_resamples=3000,
        method="percentile",
        random_state=1,
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(other), abs=0.01)
    assert found.value == auroc(scores, truth)
    assert found.undefined == 0


def test_seeded_and_the_same_for_lists_and_tensors():
    scores, truth = sample(1)
    found = bootstrap_interval(auroc, scores, truth, resamples=50)
    assert found == bootstrap_interval(auroc, scores.tolist(), truth.tolist(), resamples=50)
    assert found == bootstrap_interval(auroc, torch.from_numpy(scores), torch.from_numpy(truth), resamples=50)
    assert found != bootstrap_interval(auroc, scores, truth, resamples=50, seed=1)
    wide = bootstrap_interval(auroc, scores, truth, resamples=50, level=0.5)
    assert found.low < wide.low < wide.high < found.high


def test_covers_the_truth_about_as_often_as_it_says():
    """The mean of normal values: 95 % intervals of 40 values cover it in 92 to 95 of 100 cases."""
    rng = np.random.default_rng(2)
    hits = 0
    for n in range(200):
        found = bootstrap_interval(np.mean, rng.normal(size=40), resamples=200, seed=n)
        hits += found.low <= 0 <= found.high
    assert 176 <= hits <= 198


def test_strata_keep_their_sizes():
    seen = []

    def shares(classes):
        seen.append(np.unique(classes, return_counts=True)[1].tolist())
        return 0.0

    classes = ["b", "a", "b", "c", "a", "b"]
    bootstrap_interval(shares, np.array(classes), strata=classes, resamples=20)
    assert seen == [[2, 3, 1]] * 21
    scores, _ = sample(3, 6)
    found = bootstrap_interval(auroc, scores, [0, 0, 0, 0, 0, 1], strata=[0, 0, 0, 0, 0, 1], resamples=100)
    assert found.undefined == 0


def test_undefined_resamples_are_counted():
    scores = np.arange(8.0)
    found = bootstrap_interval(auroc, scores, scores > 6, resamples=400)
    assert found.undefined == pytest.approx((7 / 8) ** 8, abs=0.08)
    assert found.low == 1.0
    with pytest.warns(UserWarning, match="of the resamples have no figure|needs normal and anomalous") as seen:
        found = bootstrap_interval(auroc, scores[:1], scores[:1] > 0, resamples=10)
    assert np.isnan(found.low)
    assert len(seen) == 2


def test_pixel_figures_from_histograms_agree_with_those_of_images():
    maps, masks = random_set(10, 24, 0)
    exact = bootstrap_interval(aupro, maps, masks, resamples=40)
    histograms = score_histograms(maps, masks)
    fast = bootstrap_interval(lambda drawn: histogram_curve(drawn.sum(0)).aupro(), histograms, resamples=40)
    assert fast == pytest.approx(exact, abs=2e-3)
    assert exact.low < exact.value < exact.high


def test_lesions_by_volume():
    anomaly, truth = np.zeros((2, 9, 9, 9))
    anomaly[1:4, 1:4, 1:4] = truth[1:4, 1:4, 1:4] = 1
    curves = [lesion_froc(one, truth, thresholds=[0.5]) for one in [anomaly] * 6 + [0 * anomaly] * 2]
    found = bootstrap_interval(lambda drawn: pooled_froc(drawn).at(1), curves, resamples=200)
    assert found.value == 0.75
    assert 0.3 < found.low < 0.75 < found.high <= 1


def test_mistakes():
    for call, words in (
        (lambda: bootstrap_interval(auroc, [1.0], []), "lengths"),
        (lambda: bootstrap_interval(auroc, [], []), "lengths"),
        (lambda: bootstrap_interval(np.mean, [1.0], level=1), "level=1"),
        (lambda: bootstrap_interval(np.mean, [1.0], resamples=0), "resamples=0"),
        (lambda: bootstrap_interval(np.mean, [1.0], strata=[1, 2]), "2 labels for 1"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            call()

"""Exact ranking metrics by hand, by definition, and against MONAI's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import compute_average_precision, compute_roc_auc
from scipy.integrate import trapezoid
from torch import from_numpy

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import auroc, average_precision, f1_max, ranking_curve


def ranking(scores, truth):
    curve = ranking_curve(scores, truth)
    return curve.auroc(), curve.average_precision(), *curve.f1_max()


def test_by_hand():
    # From the top: lesion, normal, lesion, normal, normal.
    found = ranking(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), np.array([1, 0, 1, 0, 0]))
    assert found == pytest.approx((5 / 6, (1 + 2 / 3) / 2, 2 * 2 / (3 + 2), 3.0))


def test_equal_scores_are_not_told_apart():
    assert ranking(np.zeros(10), np.arange(10) < 3) == pytest.approx((0.5, 0.3, 2 * 3 / (10 + 3), 0))


def by_definition(scores, truth):
    """Every pair, and every score as a threshold."""
    found, normal = scores[truth], scores[~truth]
    pairs = (found[:, None] > normal).mean() + (found[:, None] == normal).mean() / 2
    precision, dice, before = 0.0, [], 0
    thresholds = np.unique(scores)[::-1]
    for threshold in thresholds:
        above = scores >= threshold
        hits = (above & truth).sum()
        precision += (hits - before) / truth.sum() * hits / above.sum()
        dice.append(2 * hits / (above.sum() + truth.sum()))
        before = hits
    return pairs, precision, max(dice), thresholds[int(np.argmax(dice))]


@given(st.integers(0, 10_000), st.integers(2, 60), st.sampled_from([2, 5, 50]))
def test_they_are_the_definitions_with_ties(seed, count, levels):
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.4
    truth[:2] = True, False
    scores = rng.integers(0, levels, count) / 8 - 1
    assert ranking(scores, truth) == pytest.approx(by_definition(scores, truth), abs=1e-12)
    best = f1_max(scores, truth)
    assert (auroc(scores, truth), average_precision(scores, truth), *best) == ranking(scores, truth)
    curve = ranking_curve(scores, truth)
    false, true = curve.roc()
    assert trapezoid(true, false) == pytest.approx(curve.auroc())
    assert (np.diff(false) >= 0).all()
    assert (np.diff(true) >= 0).all()
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    precision, recall = curve.precision_recall()
    assert (precision * np.diff(recall, prepend=0)).sum() == pytest.approx(curve.average_precision())


def test_that_of_monai_where_no_scores_are_equal():
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=200) < 0.2
    scores = rng.normal(size=200) + truth
    pair = from_numpy(scores), from_numpy(truth.astype(np.float64))
    assert auroc(scores, truth) == pytest.approx(compute_roc_auc(*pair), abs=1e-6)
    assert average_precision(scores, truth) == pytest.approx(compute_average_precision(*pair), abs=1e-6)


def test_a_monotone_change_changes_nothing():
    rng = np.random.default_rng(1)
    scores, truth = rng.uniform(size=(4, 5, 6)), rng.uniform(size=(4, 5, 6)) < 0.3
    assert ranking(scores, truth)[:3] == pytest.approx(ranking(np.exp(3 * scores), truth)[:3])


def test_arrays_lists_and_tensors():
    rng = np.random.default_rng(2)
    scores, truth = rng.random((2, 6, 5)).astype(np.float32), rng.random((2, 6, 5)) < 0.3
    wanted = ranking(scores, truth)
    assert ranking(list(scores), list(truth)) == wanted
    assert ranking(scores.ravel().tolist(), truth.ravel().tolist()) == pytest.approx(wanted)
    assert ranking(from_numpy(scores).requires_grad_(), from_numpy(truth)) == wanted
    assert ranking([scores[0], scores[1].T], [truth[0], truth[1].T]) == wanted
    rounded = from_numpy(scores).bfloat16()
    assert ranking(rounded, from_numpy(truth)) == ranking(rounded.float(), from_numpy(truth))
    assert auroc(scores.astype(np.float16), truth) == pytest.approx(wanted[0], abs=1e-2)
    assert torch.equal(rounded, from_numpy(scores).bfloat16())


@pytest.mark.parametrize("truth", [np.zeros(3), np.ones(3)])
@pytest.mark.parametrize("metric", [auroc, average_precision, f1_max])
def test_one_kind_alone_is_nan_with_a_warning(truth, metric):
    with pytest.warns(UserWarning, match="needs normal and anomalous values") as seen:
        assert np.isnan(metric(np.arange(3.0), truth)).all()
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("scores", "truth", "words"),
    [
        (np.zeros(3), np.zeros(4), "shape"),
        (np.zeros(2), np.array([0, np.nan]), "truth holds 1"),
        ([np.zeros(2), np.zeros(3)], [np.zeros(2)], "give as many"),
    ],
)
def test_what_does_not_fit_is_refused(scores, truth, words):
    for metric in (auroc, average_precision, f1_max):
        with pytest.raises(ConfigurationError, match=words):
            metric(scores, truth)

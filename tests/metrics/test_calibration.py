"""Expected calibration error by its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import ScoreCalibrationMetric, expected_calibration_error


def by_definition(scores, truth, bins):
    places = np.clip(np.ceil(scores * bins), 1, bins)
    return sum(
        abs(scores[places == n].mean() - truth[places == n].mean()) * (places == n).mean() for n in np.unique(places)
    )


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 30), st.integers(1, 300))
def test_it_is_the_definition(seed, bins, count):
    rng = np.random.default_rng(seed)
    scores = rng.random(count)
    truth = rng.random(count) < scores**2
    wanted = by_definition(scores, truth, bins)
    assert expected_calibration_error(scores, truth, bins) == pytest.approx(wanted, abs=1e-6)
    metric = ScoreCalibrationMetric(bins)
    for part in np.array_split(np.arange(count), 3):
        metric(torch.from_numpy(scores[part])[:, None], torch.from_numpy(truth[part])[:, None])
    assert metric.aggregate() == pytest.approx(wanted, abs=1e-6)


def test_many_values_keep_their_precision():
    rng = np.random.default_rng(0)
    scores = rng.random((3, 500, 500)).astype(np.float32)
    truth = rng.random(scores.shape) < scores * 0.9
    assert expected_calibration_error(scores, truth) == pytest.approx(by_definition(scores, truth, 15), abs=1e-6)
    metric = ScoreCalibrationMetric()
    metric(torch.from_numpy(scores), torch.from_numpy(truth))
    table = metric.table()
    assert table.counts.sum() == scores.size
    np.testing.assert_allclose(table.frequency, table.score * 0.9, atol=0.02)


def test_truth_of_one_kind_has_an_error_and_no_values_have_none():
    assert expected_calibration_error([0.2, 0.4], [0, 0]) == pytest.approx(0.3)
    with pytest.warns(UserWarning, match="needs values"):
        assert math.isnan(expected_calibration_error([], []))
    metric = ScoreCalibrationMetric()
    metric(torch.tensor([0.05]), torch.tensor([1]))
    assert np.isnan(metric.table().score).sum() == 14


@pytest.mark.parametrize(
    ("scores", "words"), [([1.2, 0.1], "within"), ([-0.1, 0.1], "within"), ([1.2, math.nan], "within")]
)
def test_what_is_no_probability_is_refused(scores, words):
    with pytest.raises(ConfigurationError, match=words):
        expected_calibration_error(scores, [0, 1])
    with pytest.raises(ConfigurationError, match=words):
        ScoreCalibrationMetric()(torch.tensor(scores), torch.tensor([0, 1]))
    for form in (lambda: ScoreCalibrationMetric(0), lambda: expected_calibration_error([0.1], [0], 0)):
        with pytest.raises(ConfigurationError, match="at least one bin"):
            form()

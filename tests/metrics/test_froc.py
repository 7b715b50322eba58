"""Lesions over volumes as they come, against the plain functions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import FrocMetric, lesion_froc, pooled_froc
from tests.metrics.test_lesions import volume_with_candidates

RULE: dict[str, Any] = {"min_voxels": 5, "min_overlap": 0.2, "min_lesion": 2}


def volumes():
    anomaly, truth, body = volume_with_candidates()
    outside = body.copy()
    outside[:, 9:13] = 0
    return [(anomaly, truth, body), (anomaly[::-1] * 0.7, truth, outside), (anomaly, 0 * truth, body)]


@pytest.mark.filterwarnings("ignore:no lesion of")
def test_it_is_the_pooled_curve():
    metric = FrocMetric([0.2, 0.4, 0.6, 0.85], rates=(0.5, 1), **RULE)
    curves = []
    for anomaly, truth, body in volumes():
        metric(*(torch.from_numpy(part.copy())[None, None] for part in (anomaly, truth)), body=body[None, None])
        curves.append(lesion_froc(anomaly, truth, body, thresholds=metric.thresholds, **RULE))
    wanted, found = pooled_froc(curves), metric.curve()
    assert (found.lesions, found.volumes) == (wanted.lesions, wanted.volumes) == (3, 3)
    assert found.thresholds.tolist() == [0.85, 0.6, 0.4, 0.2]
    np.testing.assert_allclose(found.sensitivity, wanted.sensitivity)
    np.testing.assert_allclose(found.false_positives, wanted.false_positives)
    assert metric.aggregate() == pytest.approx((found.at(0.5) + found.at(1)) / 2)
    assert 0 < found.at(0.5) < found.at(2)


def test_no_lesions_are_nan_with_a_warning():
    metric = FrocMetric()
    metric(torch.rand(1, 1, 5, 5, 5), torch.zeros(1, 1, 5, 5, 5))
    with pytest.warns(UserWarning, match="no lesion to find"):
        assert math.isnan(metric.aggregate())


def test_mistakes():
    with pytest.raises(ConfigurationError, match="at least one"):
        FrocMetric([])
    with pytest.raises(ConfigurationError, match="at least one"):
        FrocMetric(rates=())
    metric = FrocMetric()
    with pytest.raises(ConfigurationError, match="nothing to aggregate"):
        metric.aggregate()
    with pytest.raises(ConfigurationError, match="same shape"):
        metric(torch.rand(1, 1, 5, 5), torch.zeros(1, 1, 5, 5))
    with pytest.raises(ConfigurationError, match="same shape"):
        metric(torch.rand(1, 1, 5, 5, 5), torch.zeros(1, 1, 5, 5, 5), body=torch.ones(1, 1, 5, 5, 4))
    with pytest.raises(ConfigurationError, match="1 predictions, but of body 2"):
        metric(torch.rand(1, 1, 5, 5, 5), torch.zeros(1, 1, 5, 5, 5), body=torch.ones(2, 1, 5, 5, 5))

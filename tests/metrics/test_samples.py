"""Figures of images, volumes and slices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.handlers import IgniteMetricHandler

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import ImageRankingMetric, SliceRankingMetric, auroc, average_precision, f1_max, slice_scores

FIGURES = {"auroc": auroc, "average_precision": average_precision, "f1_max": lambda *pair: f1_max(*pair).value}


@pytest.mark.parametrize("name", FIGURES)
def test_images_in_any_form_and_order(name):
    rng = np.random.default_rng(3)
    scores, truth = np.round(rng.random(30), 1).astype(np.float32), rng.random(30) < 0.4
    wanted = FIGURES[name](scores, truth)
    metric = ImageRankingMetric(name)
    for rows in (slice(0, 7), slice(7, 7), slice(7, 30)):
        metric(torch.from_numpy(scores[rows])[:, None, None, None], torch.from_numpy(truth[rows])[:, None])
    assert metric.aggregate() == wanted
    metric.reset()
    order = rng.permutation(30)
    metric(torch.from_numpy(scores[order]), torch.from_numpy(truth[order]))
    assert metric.aggregate() == wanted
    metric.reset()
    masks = [torch.zeros(1, 4 + n, 5) for n in range(30)]
    for mask, anomalous in zip(masks, truth, strict=True):
        mask[0, 2, 3] = float(anomalous)
    metric([torch.tensor([score]) for score in scores], masks)
    assert metric.aggregate() == wanted
    assert metric.curve().f1_max() == f1_max(scores, truth)


def test_as_a_handler_of_an_engine():
    handler = IgniteMetricHandler(metric_fn=ImageRankingMetric(), save_details=False)
    handler.update([torch.tensor([0.9, 0.1]), torch.tensor([1, 0])])
    assert handler.compute() == 1.0


def test_slices_of_volumes_of_different_depth():
    rng = np.random.default_rng(4)
    volumes = [rng.random((1, 6, 5, depth)) for depth in (4, 7)]
    masks = [(rng.random(volume.shape) < 0.02) * 1.0 for volume in volumes]
    bodies = [np.ones(volume.shape) for volume in volumes]
    bodies[0][..., 0] = bodies[1][:, :, 2:, 1] = 0
    metric = SliceRankingMetric("auroc", quantile=0.9, min_fraction=0.5)
    metric(*([torch.from_numpy(one) for one in part] for part in (volumes, masks)), body=bodies)
    scores: list[float] = []
    truth: list[bool] = []
    for volume, mask, body in zip(volumes, masks, bodies, strict=True):
        kept, found = slice_scores(volume[0], body[0], 0.9, 0.5)
        scores.extend(found)
        truth.extend((mask * body)[0].any((0, 1))[kept])
    assert len(scores) == 9
    assert metric.aggregate() == auroc(scores, truth)


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("name", FIGURES)
def test_one_kind_alone_is_nan_with_a_warning(name, value):
    metric = ImageRankingMetric(name)
    metric(torch.rand(4), torch.full((4,), value))
    with pytest.warns(UserWarning, match="needs normal and anomalous"):
        assert math.isnan(metric.aggregate())


def test_mistakes():
    with pytest.raises(ConfigurationError, match="choose auroc, average_precision or f1_max"):
        ImageRankingMetric("aupro")  # type: ignore[arg-type]
    metric = ImageRankingMetric()
    with pytest.raises(ConfigurationError, match="nothing to aggregate"):
        metric.aggregate()
    for scores, truth, words in (
        (torch.rand(3), torch.ones(2), "3 predictions, but of truth 2"),
        ([torch.rand(1)] * 3, [torch.ones(1)] * 2, "3 predictions, but of truth 2"),
        (torch.rand(3), None, "3 predictions, but of truth none"),
        (torch.rand(3, 2), torch.ones(3), "one score for each image"),
        (torch.rand(1), torch.tensor([float("nan")]), "truth holds NaN"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            metric(scores, truth)
    with pytest.raises(ConfigurationError, match=r"give both in the same shape, \(1, X, Y, Z\)"):
        SliceRankingMetric()(torch.rand(1, 1, 3, 3), torch.rand(1, 1, 3, 3))


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

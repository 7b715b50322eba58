"""Ranking of pixels from histograms against MONAI's exact forms."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_average_precision, compute_roc_auc

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import PixelRankingMetric

EXACT = {"auroc": compute_roc_auc, "average_precision": compute_average_precision}


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 200))
def test_equals_the_exact_form_where_scores_differ_by_a_bin(name: str, seed: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(3, 1, 6, 7, generator=generator) > 0.7).float()
    mask[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    scores = torch.randint(levels, mask.shape, generator=generator) / levels
    if name == "average_precision":  # MONAI's gives ties another meaning
        scores = torch.randperm(mask.numel(), generator=generator).view(mask.shape) / mask.numel()
    metric = PixelRankingMetric(name, bins=4096)  # type: ignore[arg-type]
    for row in range(3):
        metric(scores[row : row + 1], mask[row : row + 1])
    assert metric.aggregate() == pytest.approx(EXACT[name](scores.flatten(), mask.flatten()), abs=1e-6)


def test_order_of_images_and_reset() -> None:
    metric = PixelRankingMetric("auroc")
    scores, mask = torch.rand(2, 1, 5, 5), torch.zeros(2, 1, 5, 5)
    mask[0, 0, 0] = 1
    metric(scores, mask)
    first = metric.aggregate()
    metric.reset()
    metric(scores.flip(0), mask.flip(0))
    assert metric.aggregate() == first


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("name", EXACT)
def test_one_kind_of_pixels_is_nan_with_a_warning(name: str, value: float) -> None:
    metric = PixelRankingMetric(name)  # type: ignore[arg-type]
    metric(torch.rand(1, 1, 3, 3), torch.full((1, 1, 3, 3), value))
    with pytest.warns(UserWarning, match="needs normal and anomalous pixels"):
        assert math.isnan(metric.aggregate())


def test_mistakes() -> None:
    with pytest.raises(ConfigurationError, match="choose auroc"):
        PixelRankingMetric("auc")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="same shape"):
        PixelRankingMetric()(torch.rand(1, 1, 3, 3), torch.rand(1, 1, 4, 4))

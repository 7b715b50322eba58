"""Ranking of pixels from histograms against the exact forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import (
    PixelRankingMetric,
    aupro,
    auroc,
    average_precision,
    f1_max,
    histogram_curve,
    score_histograms,
)

EXACT = {
    "auroc": auroc,
    "average_precision": average_precision,
    "f1_max": lambda scores, mask: f1_max(scores, mask).value,
    "aupro": lambda scores, mask: aupro(scores[:, 0], mask[:, 0]),
}


def random_batch(seed: int, levels: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(3, 1, 6, 7, generator=generator) > 0.7).float()
    mask[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    if levels:
        return torch.randint(levels, mask.shape, generator=generator) / levels, mask
    return (torch.rand(mask.shape, generator=generator) + mask / 2) / 1.5, mask


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(2, 200))
def test_equals_the_exact_form_where_scores_differ_by_a_bin(name: str, seed: int, levels: int) -> None:
    scores, mask = random_batch(seed, levels)
    for bins in (4096, None):
        metric = PixelRankingMetric(name, bins=bins)  # type: ignore[arg-type]
        for row in range(3):
            metric(scores[row : row + 1], mask[row : row + 1])
        assert metric.aggregate() == pytest.approx(EXACT[name](scores, mask), abs=1e-9)


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=30)
@given(
    st.integers(0, 1000), st.sampled_from([1, 2, 7, 30, 300]), st.sampled_from([(0.0, 1.0), (0.2, 0.7), (-3.0, 5.0)])
)
def test_the_exact_form_lies_within_the_bounds(name: str, seed: int, bins: int, ends: tuple[float, float]) -> None:
    scores, mask = random_batch(seed)
    metric = PixelRankingMetric(name, bins=bins, score_range=ends)  # type: ignore[arg-type]
    metric(scores, mask)
    low, high = metric.bounds()
    rounding = 1e-12
    for value in (EXACT[name](scores, mask), metric.aggregate()):
        assert low - rounding <= value <= high + rounding
    exact = PixelRankingMetric(name, bins=None)  # type: ignore[arg-type]
    exact(scores, mask)
    assert exact.bounds() == pytest.approx([EXACT[name](scores, mask)] * 2)


@pytest.mark.parametrize("name", EXACT)
def test_bounds_close_with_the_bins(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(4, 1, 64, 64, generator=generator) > 0.9).float()
    scores = (torch.rand(mask.shape, generator=generator) + mask / 3) / 1.5
    widths = []
    for bins in (64, 512, 4096):
        metric = PixelRankingMetric(name, bins=bins)  # type: ignore[arg-type]
        metric(scores, mask)
        low, high = metric.bounds()
        widths.append(high - low)
    assert widths[0] > 3 * widths[1] > 9 * widths[2]
    assert widths[2] < 2e-3


def test_memory_does_not_grow_with_the_data() -> None:
    metric = PixelRankingMetric("auroc", bins=16)
    for seed in range(5):
        metric(*random_batch(seed))
        assert metric._buffers is not None
        assert [tuple(kept.shape) for kept in metric._buffers[0]] == [(1, 48)]


def test_the_threshold_gives_the_value() -> None:
    scores, mask = random_batch(7)
    metric = PixelRankingMetric("f1_max", bins=10)
    metric(scores, mask)
    found = metric.curve().f1_max()
    above = scores.double().numpy() >= found.threshold
    truth = mask.numpy() > 0
    assert 2 * (above & truth).sum() / (above.sum() + truth.sum()) == pytest.approx(found.value)
    assert metric.aggregate() == found.value


@pytest.mark.parametrize("bins", [3, 10, 49, 8192])
def test_a_score_on_an_edge_is_at_the_threshold(bins: int) -> None:
    edges = np.linspace(-0.3, 1.1, bins + 1)[:-1]
    found = score_histograms([edges[None]], [np.ones((1, bins))], bins, (-0.3, 1.1))
    assert (found[0, 1] == 1).all()


def test_images_of_other_shapes_order_and_reset() -> None:
    scores, mask = random_batch(1)
    metric = PixelRankingMetric("auroc")
    metric(scores, mask)
    first = metric.aggregate()
    metric.reset()
    metric([*scores.flip(0)], [*mask.flip(0)])
    assert metric.aggregate() == first
    metric.reset()
    metric([scores[0], scores[1, :, :, :3]], [mask[0], mask[1, :, :, :3]])
    assert metric.aggregate() == pytest.approx(auroc([scores[0], scores[1, :, :, :3]], [mask[0], mask[1, :, :, :3]]))


def test_arguments_stay_as_they_are_and_may_carry_metadata_or_gradients() -> None:
    scores, mask = random_batch(3)
    metric, other = PixelRankingMetric("aupro"), PixelRankingMetric("aupro")
    metric(scores, mask)
    given_ = MetaTensor(scores.clone()).requires_grad_(), MetaTensor(mask.clone())
    other(*given_)
    assert other.aggregate() == metric.aggregate()
    assert type(other.get_buffer()) is torch.Tensor
    assert torch.equal(given_[0], scores)
    assert torch.equal(given_[1], mask)
    metric.reset()
    metric([one.numpy()[:, ::-1] for one in scores], [one.numpy()[:, ::-1] for one in mask])
    assert metric.aggregate() == other.aggregate()


def test_histograms_of_images_add_up_to_that_of_all() -> None:
    scores, mask = random_batch(2)
    metric = PixelRankingMetric("aupro")
    metric(scores, mask)
    found = score_histograms(scores[:, 0], mask[:, 0])
    assert found.shape == (3, 3, 8192)
    assert histogram_curve(found.sum(0)).aupro() == metric.aggregate()


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("bins", [8192, None])
@pytest.mark.parametrize("name", EXACT)
def test_one_kind_of_pixels_is_nan_with_a_warning(name: str, bins: int | None, value: float) -> None:
    metric = PixelRankingMetric(name, bins=bins)  # type: ignore[arg-type]
    metric(torch.rand(1, 1, 3, 3), torch.full((1, 1, 3, 3), value))
    with pytest.warns(UserWarning, match="needs normal and anomalous values"):
        assert math.isnan(metric.aggregate())
    with pytest.warns(UserWarning, match="needs normal and anomalous values"):
        assert np.isnan(metric.bounds()).all()


def test_mistakes() -> None:
    with pytest.raises(ConfigurationError, match="choose auroc"):
        PixelRankingMetric("auc")  # type: ignore[arg-type]
    for settings_ in ({"bins": 0}, {"score_range": (1.0, 1.0)}, {"score_range": (0.0, float("inf"))}):
        with pytest.raises(ConfigurationError, match="at least one bin"):
            PixelRankingMetric(**settings_)
    metric = PixelRankingMetric()
    with pytest.raises(ConfigurationError, match="nothing to aggregate"):
        metric.aggregate()
    with pytest.raises(ConfigurationError, match="same shape"):
        metric(torch.rand(1, 1, 3, 3), torch.rand(1, 1, 4, 4))
    with pytest.raises(ConfigurationError, match="same shape"):
        metric(torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3, 3))
    with pytest.raises(ConfigurationError, match="limit"):
        PixelRankingMetric("aupro", limit=0)

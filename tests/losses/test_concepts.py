"""The concept loss against plain formulas."""

from __future__ import annotations

import math

import pytest
import torch

from monai_zsad.losses import ConceptLoss

GENERATOR = torch.Generator().manual_seed(4)
SHAPE = (2, 15, 6, 3)  # slices, rows, columns, concepts
LOGITS = torch.randn(SHAPE, generator=GENERATOR)
LABEL = (torch.rand(SHAPE, generator=GENERATOR) * 2 - 1).clamp_min(0)
LABEL[..., 2] = 0  # nowhere in the batch
LABEL[1, ..., 0] = 0  # not in the second slice
WEIGHT = (torch.rand(SHAPE, generator=GENERATOR) > 0.2).float()


def dice(logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor, least: float) -> float | None:
    """Dice loss of one region, pixel by pixel; None where there is too little foreground."""
    overlap = squares = share = 0.0
    for x, y, w in zip(logits.flatten().tolist(), label.flatten().tolist(), weight.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        overlap += w * p * y
        squares += w * (p * p + y * y)
        share += w * y
    return 1 - (2 * overlap + 1) / (squares + 1) if share > least else None


def mean(values: list[float | None]) -> float:
    found = [value for value in values if value is not None]
    return sum(found) / max(len(found), 1)


def expected(logits: torch.Tensor, positive: float, factor: float) -> float:
    entropy = 0.0
    for x, y, w in zip(logits.flatten().tolist(), LABEL.flatten().tolist(), WEIGHT.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        entropy += -w * ((1 - y) * math.log(1 - p) + positive * y * math.log(p)) * (0.1 + abs(p - y))
    batch = [dice(logits[..., k], LABEL[..., k], WEIGHT[..., k], 8) for k in range(3)]
    slices = [dice(logits[k, ..., 0], LABEL[k, ..., 0], WEIGHT[k, ..., 0], 1) for k in range(len(logits))]
    assert [value is None for value in batch] == [False, False, True]
    assert [value is None for value in slices] == [False, True]
    return factor * entropy / logits.numel() + mean(batch) + mean(slices)


@pytest.mark.parametrize(("positive", "factor"), [(4.0, 10.0), (1.0, 2.0)])
def test_formula(positive: float, factor: float) -> None:
    loss = ConceptLoss(positive, factor)
    assert float(loss(LOGITS, (LABEL, WEIGHT))) == pytest.approx(expected(LOGITS, positive, factor), rel=1e-5)


def test_places_without_weight_say_nothing() -> None:
    logits = LOGITS.clone().requires_grad_()
    ConceptLoss()(logits, (LABEL, WEIGHT)).backward()
    assert logits.grad is not None
    left_out = WEIGHT == 0
    assert not logits.grad[left_out].any()
    assert logits.grad[~left_out].ne(0).all()
    assert logits.grad.isfinite().all()


def test_extreme_logits_stay_finite() -> None:
    for value in (-1e4, 1e4):
        logits = torch.full(SHAPE, value, requires_grad=True)
        loss = ConceptLoss()(logits, (LABEL, WEIGHT))
        loss.backward()
        assert loss.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


def test_nothing_but_normal() -> None:
    nothing = torch.zeros(SHAPE)
    quiet, loud = (float(ConceptLoss()(nothing + x, (nothing, WEIGHT))) for x in (-6, 6))
    assert quiet < 0.01 < loud

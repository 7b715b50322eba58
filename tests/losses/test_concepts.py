"""The concept loss against plain formulas."""

from __future__ import annotations

import math

import pytest
import torch

from monai_zsad.losses import ConceptLoss

GENERATOR = torch.Generator().manual_seed(4)
SHAPE = (2, 3, 5, 4, 3)  # items, windows, tokens, parts, concepts
LOGITS = torch.randn(SHAPE, generator=GENERATOR)
LABEL = (torch.rand(SHAPE, generator=GENERATOR) * 2 - 1).clamp_min(0)
LABEL[..., 2] = 0  # nowhere in the batch
WEIGHT = (torch.rand(*SHAPE[:-1], 1, generator=GENERATOR) > 0.2).float()


def expected(logits: torch.Tensor, positive: float, factor: float) -> float:
    entropy, places = 0.0, 0
    overlap, squares, shares = [0.0] * 3, [0.0] * 3, [0.0] * 3
    for x, y, w, concept in zip(
        logits.flatten().tolist(),
        LABEL.flatten().tolist(),
        WEIGHT.expand(SHAPE).flatten().tolist(),
        torch.arange(3).expand(SHAPE).flatten().tolist(),
        strict=True,
    ):
        p = 1 / (1 + math.exp(-x))
        entropy += -w * ((1 - y) * math.log(1 - p) + positive * y * math.log(p)) * (0.1 + abs(p - y))
        places += 1
        overlap[concept] += w * p * y
        squares[concept] += w * (p * p + y * y)
        shares[concept] += w * y
    dice = [1 - (2 * o + 1) / (s + 1) for o, s, n in zip(overlap, squares, shares, strict=True) if n > 8]
    assert len(dice) == 2
    return factor * entropy / places + sum(dice) / len(dice)


@pytest.mark.parametrize(("positive", "factor"), [(4.0, 10.0), (1.0, 2.0)])
def test_formula(positive: float, factor: float) -> None:
    loss = ConceptLoss(positive, factor, auxiliary=0)
    assert float(loss({"words": LOGITS}, (LABEL, WEIGHT))) == pytest.approx(
        expected(LOGITS, positive, factor), rel=1e-5
    )


def test_auxiliary_is_added() -> None:
    words, auxiliary = LOGITS, 0.5 * LOGITS.flip(0)
    alone = ConceptLoss(auxiliary=0)
    target = (LABEL, WEIGHT)
    both = ConceptLoss(auxiliary=0.3)({"words": words, "auxiliary": auxiliary}, target)
    torch.testing.assert_close(both, alone({"words": words}, target) + 0.3 * alone({"words": auxiliary}, target))


def test_places_without_weight_say_nothing() -> None:
    logits = LOGITS.clone().requires_grad_()
    ConceptLoss(auxiliary=0)({"words": logits}, (LABEL, WEIGHT)).backward()
    assert logits.grad is not None
    left_out = (WEIGHT == 0).expand(SHAPE)
    assert not logits.grad[left_out].any()
    assert logits.grad[~left_out].ne(0).all()
    assert logits.grad.isfinite().all()


def test_extreme_logits_stay_finite() -> None:
    for value in (-1e4, 1e4):
        logits = torch.full(SHAPE, value, requires_grad=True)
        loss = ConceptLoss(auxiliary=0)({"words": logits}, (LABEL, WEIGHT))
        loss.backward()
        assert loss.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


def test_nothing_but_normal() -> None:
    nothing = torch.zeros(SHAPE)
    quiet, loud = (float(ConceptLoss(auxiliary=0)({"words": nothing + x}, (nothing, WEIGHT))) for x in (-6, 6))
    assert quiet < 0.01 < loud

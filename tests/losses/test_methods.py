"""The training losses against plain formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_zsad.errors import ConfigurationError
from monai_zsad.losses import AACLIPImageLoss, AACLIPTextLoss, CraneLoss, aaclip_loss
from monai_zsad.losses.methods import image_labels, level_losses

GENERATOR = torch.Generator().manual_seed(6)
LOGITS = torch.randn(2, 3, 2, 4, 4, generator=GENERATOR)
IMAGE_LOGITS = torch.randn(3, 2, generator=GENERATOR)
MASK = (torch.rand(3, 1, 12, 12, generator=GENERATOR) > 0.8).float()
MASK[1] = 0


def _focal(p: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    # Specification, section 5: gamma 2, one-hot clamped to [1e-5, 1 - 1e-5].
    hot = torch.cat([1 - mask, mask], 1).clamp(1e-5, 1 - 1e-5)
    true = (hot * p).sum(1) + 1e-5
    return ((1 - true) ** 2 * -true.log()).mean()


def _dice(p: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    values = [1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, mask, strict=True)]
    return torch.stack(values).mean()


def test_crane() -> None:
    probabilities = LOGITS.softmax(2)
    found = CraneLoss()({"probabilities": probabilities, "image_logits": IMAGE_LOGITS}, MASK)
    expected = 0.2 * F.cross_entropy(IMAGE_LOGITS, torch.tensor([1, 0, 1]))
    for layer in probabilities:
        p = layer.repeat_interleave(3, -1).repeat_interleave(3, -2)
        expected = expected + 2 * _dice(((1 - p[:, 0]) + p[:, 1]) / 2, MASK[:, 0]) + 2 * _focal(p, MASK)
    torch.testing.assert_close(found, expected)


def test_cranes_layer_weight_stands_for_equal_layers() -> None:
    one = {"probabilities": LOGITS[:1].softmax(2), "image_logits": IMAGE_LOGITS}
    four = {**one, "probabilities": one["probabilities"].expand(4, -1, -1, -1, -1)}
    torch.testing.assert_close(CraneLoss(layer_weight=4.0)(one, MASK), CraneLoss()(four, MASK))


def test_aaclip() -> None:
    levels = level_losses(LOGITS, MASK)
    for level, found in zip(LOGITS, levels, strict=True):
        p = F.interpolate(level, (12, 12), mode="bilinear", align_corners=True).softmax(1)
        torch.testing.assert_close(found, _focal(p, MASK) + _dice(p[:, 0], 1 - MASK[:, 0]) + _dice(p[:, 1], MASK[:, 0]))
    anchors = F.normalize(torch.randn(1, 2, 8, generator=GENERATOR), dim=-1)
    text = AACLIPTextLoss()({"logits": LOGITS, "anchors": anchors}, MASK)
    torch.testing.assert_close(text, levels.mean() + 0.1 * (anchors[0, 0] @ anchors[0, 1]) ** 2)
    image = AACLIPImageLoss()({"logits": LOGITS, "image_logits": IMAGE_LOGITS}, MASK)
    torch.testing.assert_close(image, levels.sum() + F.cross_entropy(IMAGE_LOGITS, torch.tensor([1, 0, 1])))


def test_every_level_is_trained() -> None:
    # The release back-propagates its last level alone.
    logits = LOGITS.clone().requires_grad_()
    AACLIPTextLoss()({"logits": logits, "anchors": torch.eye(2).unsqueeze(0)}, MASK).backward()
    assert logits.grad is not None
    assert (logits.grad.abs().amax((1, 2, 3, 4)) > 0).all()


def test_right_answers_cost_less() -> None:
    grid = F.max_pool2d(MASK, 3)
    mask = F.interpolate(grid, (12, 12), mode="nearest")
    right = torch.cat([1 - grid, grid], 1).unsqueeze(0) * 20
    image = F.one_hot(image_labels(mask), 2).float() * 20
    for loss, key in ((CraneLoss(), "probabilities"), (aaclip_loss(2), "logits")):
        values = []
        for sign in (1, -1):
            maps = (sign * right).softmax(2) if key == "probabilities" else sign * right
            values.append(float(loss({key: maps, "image_logits": sign * image}, mask)))
        assert values[0] < 0.3 * values[1]


def test_stages() -> None:
    assert isinstance(aaclip_loss(1), AACLIPTextLoss)
    assert isinstance(aaclip_loss(2), AACLIPImageLoss)
    with pytest.raises(ConfigurationError, match="choose 1"):
        aaclip_loss(0)  # type: ignore[arg-type]

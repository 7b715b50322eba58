"""Loss for logits of several concepts with a rare foreground."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ConceptLoss"]


class ConceptLoss(nn.Module):
    """Cross-entropy with a higher weight of wrong pixels, plus the Dice loss of each concept over the batch.

    MONAI's ``DiceFocalLoss`` does not suit: its focal part takes neither weights of single voxels nor soft targets
    (partial volume). For a sample without foreground, its Dice depends on the smoothing term only. Here Dice is
    computed over the batch, which contains nearly every concept.

    Args:
        positive_weight: weight of the foreground in the cross-entropy.
        cross_entropy: factor of the cross-entropy. The cross-entropy is a mean over all pixels. It needs a larger
            factor if lesions cover a smaller part of the pixels, for example in complete slices.
        auxiliary: factor of the auxiliary head's loss.

    >>> label = torch.zeros(1, 1, 4, 16, 2)
    >>> label[..., :8, 0] = 1
    >>> right, wrong = 20 * label - 10, 10 - 20 * label
    >>> weight = torch.ones(1, 1, 4, 16, 1)
    >>> loss = ConceptLoss(auxiliary=0)
    >>> bool(loss({"words": right}, (label, weight)) < 0.1 < loss({"words": wrong}, (label, weight)))
    True
    """

    def __init__(self, positive_weight: float = 4.0, cross_entropy: float = 10.0, auxiliary: float = 1.0) -> None:
        super().__init__()
        self.positive_weight = positive_weight
        self.cross_entropy = cross_entropy
        self.auxiliary = auxiliary

    def forward(self, logits: Mapping[str, torch.Tensor], target: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Loss of the logits of the prompts and, if their factor is not 0, of the auxiliary head.

        Args:
            logits: ``words`` (logits of the prompts) and ``auxiliary``, each (..., concepts).
            target: labels (..., concepts) and weights (..., 1). A label is the fraction, in [0, 1], of the pixel that
                the concept covers.
        """
        label, weight = target
        loss = self._loss(logits["words"], label, weight)
        return loss + self.auxiliary * self._loss(logits["auxiliary"], label, weight) if self.auxiliary else loss

    def _loss(self, logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        p = torch.sigmoid(logits)
        entropy = F.softplus(logits) * (1 - label) + self.positive_weight * F.softplus(-logits) * label
        wrong = (entropy * (0.1 + (p - label).abs()) * weight).mean()
        axes = tuple(range(label.ndim - 1))
        overlap = (p * label * weight).sum(axes)
        union = (p.square() * weight).sum(axes) + (label.square() * weight).sum(axes)
        dice = 1 - (2 * overlap + 1) / (union + 1)
        present = ((label * weight).sum(axes) > 8).to(dice.dtype)
        return self.cross_entropy * wrong + (dice * present).sum() / present.sum().clamp_min(1)

"""Loss of logits for several concepts at once, each with a rare foreground."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ConceptLoss"]


class ConceptLoss(nn.Module):
    """Cross-entropy that looks at what is wrong, plus dice of each concept over the whole batch.

    Of MONAI's losses, ``DiceFocalLoss`` takes neither weights of single voxels nor soft targets of partial volume in
    its focal part, and leaves a sample without foreground to smoothing alone; here dice is taken over the batch, where
    nearly every concept occurs.

    Args:
        positive_weight: of the foreground in the cross-entropy.
        cross_entropy: factor of the cross-entropy. It is a mean over all places: where lesions are a smaller share of
            them, as in whole slices, it takes more.
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
        """Loss of ``words`` and, where its factor is not 0, of ``auxiliary``.

        Args:
            logits: each (..., concepts).
            target: the concepts' shares of each place in [0, 1], (..., concepts), and weights (..., 1).
        """
        label, weight = target
        loss = self._loss(logits["words"], label, weight)
        return loss + self.auxiliary * self._loss(logits["auxiliary"], label, weight) if self.auxiliary else loss

    def _loss(self, logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        p = torch.sigmoid(logits)
        entropy = F.softplus(logits) * (1 - label) + self.positive_weight * F.softplus(-logits) * label
        wrong = (entropy * (0.1 + (p - label).abs()) * weight).mean()
        places = tuple(range(label.ndim - 1))
        overlap = (p * label * weight).sum(places)
        union = (p.square() * weight).sum(places) + (label.square() * weight).sum(places)
        dice = 1 - (2 * overlap + 1) / (union + 1)
        present = ((label * weight).sum(places) > 8).to(dice.dtype)
        return self.cross_entropy * wrong + (dice * present).sum() / present.sum().clamp_min(1)

"""Loss for logits of several concepts with a rare foreground."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ConceptLoss"]


class ConceptLoss(nn.Module):
    """Cross-entropy with a higher weight of wrong pixels, and Dice losses over the batch and of single slices.

    MONAI's ``DiceFocalLoss`` does not suit: its focal part takes neither weights of single voxels nor soft targets
    (partial volume). For a sample without foreground, its Dice depends on the smoothing term only. Here the Dice loss
    is computed over the batch, for the concepts that it contains. There, large lesions count most. The first concept
    also has the mean Dice loss of the slices that contain it: each slice counts as much, however small its lesion.

    ``torch.compile`` makes it several times faster on CPUs: it is a long chain of simple operations.

    Args:
        positive_weight: weight of the foreground in the cross-entropy.
        cross_entropy: factor of the cross-entropy. The cross-entropy is a mean over all pixels. It needs a larger
            factor if lesions cover a smaller part of the pixels.

    >>> label = torch.zeros(4, 8, 8, 2)
    >>> label[:, :4, :, 0] = 1
    >>> right, wrong = 20 * label - 10, 10 - 20 * label
    >>> weight = torch.ones(4, 8, 8, 2)
    >>> loss = ConceptLoss()
    >>> bool(loss(right, (label, weight)) < 0.1 < loss(wrong, (label, weight)))
    True
    """

    def __init__(self, positive_weight: float = 4.0, cross_entropy: float = 20.0) -> None:
        super().__init__()
        self.positive_weight = positive_weight
        self.cross_entropy = cross_entropy

    def forward(self, logits: torch.Tensor, target: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Loss of the logits of slices.

        Args:
            logits: (B, H, W, concepts).
            target: labels and weights, each (B, H, W, concepts). A label is the fraction, in [0, 1], of the pixel that
                the concept covers.
        """
        label, weight = target
        p = torch.sigmoid(logits)
        entropy = F.softplus(logits) * (1 - label) + self.positive_weight * F.softplus(-logits) * label
        wrong = (entropy * (0.1 + (p - label).abs()) * weight).mean()
        batch = _dice(p, label, weight, (0, 1, 2), 8.0)
        slices = _dice(p[..., 0], label[..., 0], weight[..., 0], (1, 2), 1.0)
        return self.cross_entropy * wrong + batch + slices


def _dice(
    p: torch.Tensor, label: torch.Tensor, weight: torch.Tensor, axes: tuple[int, ...], least: float
) -> torch.Tensor:
    """Mean Dice loss over what has more than ``least`` pixels of foreground along ``axes``; 0 if there is none."""
    overlap = (p * label * weight).sum(axes)
    union = (p.square() * weight).sum(axes) + (label.square() * weight).sum(axes)
    present = ((label * weight).sum(axes) > least).to(p.dtype)
    return ((1 - (2 * overlap + 1) / (union + 1)) * present).sum() / present.sum().clamp_min(1)

"""Segmentation losses of the anomaly methods, for the probabilities of normal and anomalous.

MONAI's ``FocalLoss`` and ``DiceLoss`` give other values: they take logits, do not clamp the one-hot target, and smooth
the Dice of each sample and channel. The published trainings use the losses below.
"""

from __future__ import annotations

import torch

__all__ = ["anomaly_dice_loss", "anomaly_focal_loss", "anomaly_segmentation_loss"]

_SMOOTH = 1e-5


def anomaly_focal_loss(probabilities: torch.Tensor, mask: torch.Tensor, gamma: float = 2.0) -> torch.Tensor:
    """Focal loss of two-class probabilities, as a mean over the pixels.

    Args:
        probabilities: (B, 2, H, W), normal first. The two probabilities of a pixel add up to 1.
        mask: (B, 1, H, W), 1 in anomalous pixels.
        gamma: focusing exponent.

    Returns:
        A single value, 0 or more.

    >>> probabilities = torch.tensor([[[[0.9]], [[0.1]]]])
    >>> bool(anomaly_focal_loss(probabilities, torch.zeros(1, 1, 1, 1)) < 0.01)
    True
    """
    target = torch.cat([1 - mask, mask], dim=1).clamp(_SMOOTH, 1 - _SMOOTH)
    p = (target * probabilities).sum(1) + _SMOOTH
    return (-((1 - p) ** gamma) * p.log()).mean()


def anomaly_dice_loss(probability: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """One minus Dice with a smoothing term of 1, averaged over the batch.

    Args:
        probability: (B, 1, H, W) or (B, H, W).
        mask: mask with the same number of values, 0 or 1.

    Returns:
        A single value, in [0, 1].

    >>> anomaly_dice_loss(torch.ones(1, 4), torch.ones(1, 4))
    tensor(0.)
    """
    p, m = probability.flatten(1), mask.flatten(1)
    return 1 - ((2 * (p * m).sum(1) + 1) / (p.sum(1) + m.sum(1) + 1)).mean()


def anomaly_segmentation_loss(probabilities: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Focal loss plus the Dice losses of the normal and of the anomalous channel (AnomalyCLIP, AA-CLIP).

    Args:
        probabilities: (B, 2, H, W), normal first.
        mask: (B, 1, H, W), 1 in anomalous pixels.

    Returns:
        A single value, 0 or more.
    """
    return (
        anomaly_focal_loss(probabilities, mask)
        + anomaly_dice_loss(probabilities[:, :1], 1 - mask)
        + anomaly_dice_loss(probabilities[:, 1:], mask)
    )

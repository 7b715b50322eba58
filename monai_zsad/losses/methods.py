"""Training losses of Crane and AA-CLIP for the outputs of their training networks.

MONAI's losses take the logits and the one-hot labels of one map. The published losses of these methods combine several
maps on the patch grid, the label of the image, and the text anchors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from monai_zsad.errors import ConfigurationError
from monai_zsad.losses.segmentation import anomaly_dice_loss, anomaly_focal_loss, anomaly_segmentation_loss

__all__ = ["AACLIPImageLoss", "AACLIPTextLoss", "CraneLoss", "aaclip_loss"]


class CraneLoss(nn.Module):
    """Crane: Dice and focal loss, summed over the maps of the layers, plus cross-entropy of the pooled image feature.

    Args:
        dice_weight: weight of the Dice loss of ``((1 - p_normal) + p_anomalous) / 2``.
        focal_weight: weight of the focal loss.
        image_weight: weight of the cross-entropy.
        layer_weight: weight of each layer's Dice and focal loss. In the release, the four layers are one tensor, so the
            release adds the same loss four times. With a single map, 4 gives the same balance.

    Example:
        >>> outputs = {"probabilities": torch.full((1, 2, 2, 4, 4), 0.5), "image_logits": torch.zeros(2, 2)}
        >>> mask = torch.zeros(2, 1, 8, 8)
        >>> float(CraneLoss(dice_weight=0, focal_weight=0, image_weight=1)(outputs, mask))  # doctest: +ELLIPSIS
        0.693...
    """

    def __init__(
        self,
        dice_weight: float = 2.0,
        focal_weight: float = 2.0,
        image_weight: float = 0.2,
        layer_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        self.focal_weight = focal_weight
        self.image_weight = image_weight
        self.layer_weight = layer_weight

    def forward(self, outputs: Mapping[str, torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
        """Compute the loss.

        Args:
            outputs: ``probabilities`` (L, B, 2, g, g), normal first, and ``image_logits`` (B, 2).
            mask: (B, 1, H, W), 1 in anomalous pixels. An image is anomalous if any pixel is.
        """
        mask = _as_mask(mask)
        loss = self.image_weight * F.cross_entropy(outputs["image_logits"], image_labels(mask))
        for layer in outputs["probabilities"]:
            p = F.interpolate(layer, mask.shape[-2:], mode="nearest")
            dice = anomaly_dice_loss((1 - p[:, :1] + p[:, 1:]) / 2, mask)
            focal = anomaly_focal_loss(p, mask)
            loss = loss + self.layer_weight * (self.dice_weight * dice + self.focal_weight * focal)
        return loss


class AACLIPTextLoss(nn.Module):
    """AA-CLIP, stage 1: mean segmentation loss over the levels, plus the orthogonality of the anchors.

    In the release, each level overwrites the sum of the losses, so only the last level is trained. Here all levels are
    trained, as in the paper.

    Args:
        orthogonality_weight: weight of the squared mean cosine of the normal and the anomalous anchor.

    Example:
        >>> outputs = {"logits": torch.zeros(4, 1, 2, 2, 2), "anchors": torch.eye(2).unsqueeze(0)}
        >>> bool(AACLIPTextLoss()(outputs, torch.zeros(1, 1, 8, 8)) > 0)
        True
    """

    def __init__(self, orthogonality_weight: float = 0.1) -> None:
        super().__init__()
        self.orthogonality_weight = orthogonality_weight

    def forward(self, outputs: Mapping[str, torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
        """Compute the loss.

        Args:
            outputs: ``logits`` (L, B, 2, g, g), normal first, and ``anchors`` (1 or B, 2, D).
            mask: (B, 1, H, W), 1 in anomalous pixels.
        """
        normal, anomalous = outputs["anchors"].unbind(1)
        orthogonality = (normal * anomalous).sum(-1).mean() ** 2
        return level_losses(outputs["logits"], mask).mean() + self.orthogonality_weight * orthogonality


class AACLIPImageLoss(nn.Module):
    """AA-CLIP, stage 2: sum of the segmentation loss over the levels, plus cross-entropy of the detection feature.

    Args:
        image_weight: weight of the cross-entropy.

    Example:
        >>> outputs = {"logits": torch.zeros(4, 1, 2, 2, 2), "image_logits": torch.zeros(1, 2)}
        >>> bool(AACLIPImageLoss()(outputs, torch.zeros(1, 1, 8, 8)) > 0.69)
        True
    """

    def __init__(self, image_weight: float = 1.0) -> None:
        super().__init__()
        self.image_weight = image_weight

    def forward(self, outputs: Mapping[str, torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
        """Compute the loss.

        Args:
            outputs: ``logits`` (L, B, 2, g, g), normal first, and ``image_logits`` (B, 2).
            mask: (B, 1, H, W), 1 in anomalous pixels. An image is anomalous if any pixel is.
        """
        image = F.cross_entropy(outputs["image_logits"], image_labels(_as_mask(mask)))
        return level_losses(outputs["logits"], mask).sum() + self.image_weight * image


def aaclip_loss(stage: Literal[1, 2] = 1) -> AACLIPTextLoss | AACLIPImageLoss:
    """The loss of AA-CLIP's first or second stage.

    Args:
        stage: 1 trains the text adapters, 2 the image adapters.

    Returns:
        The loss of the stage.

    Raises:
        ConfigurationError: the stage is unknown.
    """
    if stage not in (1, 2):
        raise ConfigurationError(f"stage={stage!r}: choose 1 (text adapters) or 2 (image adapters)")
    return AACLIPTextLoss() if stage == 1 else AACLIPImageLoss()


def level_losses(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """AA-CLIP's segmentation loss of each level (L,).

    Args:
        logits: (L, B, 2, g, g), normal first. They are resized bilinearly (corners aligned) to the
            mask's size before the softmax.
        mask: (B, 1, H, W), 1 in anomalous pixels.
    """
    mask = _as_mask(mask)
    losses = []
    for level in logits:
        upsampled = F.interpolate(level, mask.shape[-2:], mode="bilinear", align_corners=True)
        losses.append(anomaly_segmentation_loss(upsampled.softmax(1), mask))
    return torch.stack(losses)


def image_labels(mask: torch.Tensor) -> torch.Tensor:
    """Image labels (B,) from masks (B, 1, H, W): 1 for an image with an anomalous pixel, otherwise 0.

    >>> image_labels(torch.tensor([[[[0.0, 1.0]]], [[[0.0, 0.0]]]]))
    tensor([1, 0])
    """
    return (mask.flatten(1) > 0).any(1).long()


def _as_mask(mask: torch.Tensor) -> torch.Tensor:
    return mask.as_subclass(torch.Tensor).float()

"""Losses that MONAI does not have."""

from monai_zsad.losses.concepts import ConceptLoss
from monai_zsad.losses.methods import AACLIPImageLoss, AACLIPTextLoss, CraneLoss, aaclip_loss
from monai_zsad.losses.segmentation import anomaly_dice_loss, anomaly_focal_loss, anomaly_segmentation_loss

__all__ = [
    "AACLIPImageLoss",
    "AACLIPTextLoss",
    "ConceptLoss",
    "CraneLoss",
    "aaclip_loss",
    "anomaly_dice_loss",
    "anomaly_focal_loss",
    "anomaly_segmentation_loss",
]

"""Losses that MONAI lacks."""

from monai_zsad.losses.segmentation import anomaly_dice_loss, anomaly_focal_loss, anomaly_segmentation_loss

__all__ = ["anomaly_dice_loss", "anomaly_focal_loss", "anomaly_segmentation_loss"]

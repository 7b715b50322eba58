"""Zero-shot anomaly networks: (B, C, H, W) slices in [0, 1] to (B, 2, H, W) map and score."""

from monai_zsad.networks.base import Prediction, ZeroShotNetwork
from monai_zsad.networks.crane import Crane, CranePlus

__all__ = ["Crane", "CranePlus", "Prediction", "ZeroShotNetwork"]

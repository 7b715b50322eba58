"""CLIP and the dense priors: architectures, weights, dense features."""

from monai_zsad.backbones.architectures import Activation
from monai_zsad.backbones.attention import AttentionKind
from monai_zsad.backbones.clip import CLIPBackbone, VisionFeatures
from monai_zsad.backbones.positions import PositionResize
from monai_zsad.backbones.priors import DensePrior, DINOv2Prior

__all__ = [
    "Activation",
    "AttentionKind",
    "CLIPBackbone",
    "DINOv2Prior",
    "DensePrior",
    "PositionResize",
    "VisionFeatures",
]

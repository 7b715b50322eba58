from . import (
    architectures,
    attention,
    clip,
    positions,
    priors,
    pyramid_tower,
    seeds,
    text,
    tokenizer,
    vision,
    vision_tower,
    weights,
)
from .architectures import Activation
from .attention import AttentionKind
from .clip import CLIPBackbone
from .positions import PositionResize
from .priors import DensePrior, DINOv2Prior
from .vision import VisionFeatures, VisionRequest

__all__ = [
    "Activation",
    "AttentionKind",
    "CLIPBackbone",
    "DINOv2Prior",
    "DensePrior",
    "PositionResize",
    "VisionFeatures",
    "VisionRequest",
    "architectures",
    "attention",
    "clip",
    "positions",
    "priors",
    "pyramid_tower",
    "seeds",
    "text",
    "tokenizer",
    "vision",
    "vision_tower",
    "weights",
]

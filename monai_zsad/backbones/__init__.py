"""CLIP and the dense priors: architectures, weights, dense features.

Names are imported on first use, so that the weights commands, which need modules of this room, do without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from monai_zsad.backbones.architectures import Activation
    from monai_zsad.backbones.attention import AttentionKind
    from monai_zsad.backbones.clip import CLIPBackbone
    from monai_zsad.backbones.positions import PositionResize
    from monai_zsad.backbones.priors import DensePrior, DINOv2Prior
    from monai_zsad.backbones.vision import VisionFeatures, VisionRequest

__all__ = [
    "Activation",
    "AttentionKind",
    "CLIPBackbone",
    "DINOv2Prior",
    "DensePrior",
    "PositionResize",
    "VisionFeatures",
    "VisionRequest",
]

_MODULE_OF = {
    "Activation": "architectures",
    "AttentionKind": "attention",
    "CLIPBackbone": "clip",
    "DINOv2Prior": "priors",
    "DensePrior": "priors",
    "PositionResize": "positions",
    "VisionFeatures": "vision",
    "VisionRequest": "vision",
}
# Found as attributes too, as if they were imported: configurations write `monai_zsad.backbones.weights.get_entry`.
_MODULES = (
    "architectures",
    "attention",
    "clip",
    "positions",
    "priors",
    "seeds",
    "text",
    "tokenizer",
    "vision",
    "weights",
    "weights_fetch",
    "weights_io",
)


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF, *_MODULES})

"""A network like the included model's, for small images, for the tests of its training."""

from __future__ import annotations

from typing import Any

import torch

from monai_zsad.networks import ScreeningCLIP
from monai_zsad.training.concepts import ConceptTraining

SIZE = 64
CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIZE, "patch_size": 8, "timm_model_name": "tf_efficientnet_lite0"},
    "text_cfg": {"width": 32, "heads": 1, "layers": 2},
}
SLICES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
SLICES[:, :, :6] = 0


def small_network(**options: Any) -> ScreeningCLIP:
    return ScreeningCLIP(CONFIG, **options)


def small_training(seed: int = 0, **options: Any) -> ConceptTraining:
    return ConceptTraining(small_network(), seed, **options).train()

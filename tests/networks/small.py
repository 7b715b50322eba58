"""A network like the included model's, but smaller, for the tests of its training."""

from __future__ import annotations

from typing import Any

import torch

from monai_zsad.networks import ScreeningCLIP
from monai_zsad.training.concepts import ConceptTraining

SIZE, PATCH = 40, 8
SIDE, PARTS = SIZE // PATCH, PATCH // 2
CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 64, "patch_size": PATCH},
    "text_cfg": {"width": 32, "heads": 1, "layers": 2},
}
SLICES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
SLICES[:, :, :6] = 0


def window(top: int, left: int, side: int) -> torch.Tensor:
    """Numbers of the patches in a window, row by row."""
    rows = torch.arange(top, top + side).reshape(-1, 1)
    return (rows * SIDE + torch.arange(left, left + side)).flatten()


WHOLE = window(0, 0, SIDE).expand(3, 1, -1)


def small_network(**options: Any) -> ScreeningCLIP:
    return ScreeningCLIP(CONFIG, **({"score": "map", "detail": (8, 16)} | options))


def small_training(seed: int = 0, **options: Any) -> ConceptTraining:
    return ConceptTraining(small_network(), seed, **options).train()

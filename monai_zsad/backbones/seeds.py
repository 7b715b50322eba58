"""Reproducible random weights, for tests of a pipeline. Results with random weights mean nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch

__all__ = ["parse_seed", "seeded_state_dict"]


def parse_seed(source: str | Path) -> int | None:
    """The N of ``"seed:N"``, else ``None``.

    >>> parse_seed("seed:3"), parse_seed("ViT-L-14-336:openai")
    (3, None)
    """
    match = re.fullmatch(r"seed:(\d+)", str(source))
    return int(match.group(1)) if match else None


def seeded_state_dict(like: Mapping[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Values for every tensor of ``like``: gains near one, biases near zero, other tensors with variance 1 / fan-in.

    The values depend only on ``seed`` and on the order of the names in ``like``.

    >>> a = seeded_state_dict({"weight": torch.zeros(2, 3)}, 0)["weight"]
    >>> bool((a == seeded_state_dict({"weight": torch.zeros(2, 3)}, 0)["weight"]).all())
    True
    """
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for name, tensor in like.items():
        if not tensor.is_floating_point():
            state[name] = tensor.clone()
        elif name.endswith("logit_scale"):
            state[name] = torch.full(tensor.shape, math.log(100.0))
        else:
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim > 1:
                in_rows = name.endswith(("proj", "text_projection")) and tensor.ndim == 2
                fan_in = tensor.shape[0] if in_rows else tensor[0].numel()
                state[name] = noise / math.sqrt(fan_in)
            elif name.endswith("weight"):
                state[name] = 1 + 0.1 * noise
            else:
                state[name] = 0.02 * noise
    return state

"""Parameters and arithmetic of every method at its own size: ``python -m tests.benchmarks.cost``.

Counted on PyTorch's meta device, so that it takes seconds and no memory. Floating-point operations are those of matrix
products, convolutions and attention for one slice, text anchors given; a multiplication and an addition are two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from monai_zsad.networks import AACLIP, AnoCLIP, AnomalyCLIP, Crane, CranePlus, ZeroShotNetwork

METHODS: tuple[Callable[[], ZeroShotNetwork], ...] = (Crane, CranePlus, AnomalyCLIP, AACLIP, AnoCLIP)


def main() -> None:
    print(f"{'method':12} {'input':>6} {'vision + prior, M parameters':>29} {'text, M':>8} {'GFLOP per slice':>16}")
    for method in METHODS:
        network: Any = method().to("meta")
        clip = network.clip
        text = [clip.transformer, clip.token_embedding, clip.ln_final]
        text_parameters = sum(p.numel() for module in text for p in module.parameters())
        text_parameters += clip.positional_embedding.numel() + clip.text_projection.numel()
        total = sum(p.numel() for p in network.parameters())
        counter = FlopCounterMode(display=False)
        images = torch.zeros(1, 3, network.image_size, network.image_size, device="meta")
        with torch.no_grad(), counter:
            network.predict(images)
        print(
            f"{type(network).__name__:12} {network.image_size:6} {(total - text_parameters) / 1e6:29.0f} "
            f"{text_parameters / 1e6:8.0f} {counter.get_total_flops() / 1e9:16.0f}"
        )


if __name__ == "__main__":
    main()

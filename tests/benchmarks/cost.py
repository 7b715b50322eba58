"""Parameters, arithmetic and, on request, time of every method at its own size.

``python -m tests.benchmarks.cost [--seconds]``. Counted on PyTorch's meta device, so that it takes seconds and no
memory. Floating-point operations are those of matrix products, convolutions and attention for one slice, text anchors
given; a multiplication and an addition are two. ``--seconds`` times one slice in float32 on this machine, the better of
two passes after a first, with random weights: time does not depend on their values.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from monai_zsad.networks import AACLIP, AnoCLIP, AnomalyCLIP, Crane, CranePlus, TestTimeAdaptation, ZeroShotNetwork

METHODS: tuple[Callable[[], ZeroShotNetwork], ...] = (Crane, CranePlus, AnomalyCLIP, AACLIP, AnoCLIP)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cost", description=__doc__)
    parser.add_argument("--seconds", action="store_true", help="time a slice of each method, too")
    options = parser.parse_args()
    _print_arithmetic()
    if options.seconds:
        _print_seconds()


def _print_arithmetic() -> None:
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


def _print_seconds() -> None:
    threads = torch.get_num_threads()
    print(f"\n{'method':22} {'seconds per slice':>17} {'load average':>13}   (float32, {threads} threads)")
    for method in (*METHODS, lambda: AnoCLIP(adaptation=TestTimeAdaptation())):
        network: Any = method()
        _fill(network)
        images = torch.randn(1, 3, network.image_size, network.image_size)
        name = type(network).__name__ + (" with adaptation" if getattr(network, "adaptation", None) else "")
        with torch.inference_mode():
            _, *passes = [_seconds_of(network, images) for _ in range(3)]
        print(f"{name:22} {min(passes):17.2f} {os.getloadavg()[0]:13.1f}", flush=True)


def _fill(network: torch.nn.Module) -> None:
    """Weights and text anchors as a new network has none of; the buffers it computes by itself stay."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.02)
        for buffer in network.buffers():
            if buffer.is_floating_point() and buffer.isnan().any():
                buffer.normal_(std=0.02)


def _seconds_of(network: Any, images: torch.Tensor) -> float:
    start = time.perf_counter()
    network.predict(images)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

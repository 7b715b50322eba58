"""What AnoCLIP's test-time adaptation costs: its time over the encoder's, in one run.

``python -m tests.benchmarks.adaptation_cost [--slices 100] [--batch 4]``. Encoder and adaptation alternate, so that
whatever else the machine does slows both. Seeded weights: time does not depend on their values.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from monai_zsad.networks import AnoCLIP, TestTimeAdaptation
from monai_zsad.networks.adaptation import TokenAdapter


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.adaptation_cost", description=__doc__)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--precision", default="float32")
    options = parser.parse_args()
    network = AnoCLIP()
    network.load_weights(clip="seed:0")
    network.set_precision(options.precision)
    images = torch.randn(options.batch, 3, network.image_size, network.image_size)
    settings = TestTimeAdaptation()
    with torch.inference_mode():
        tokens = network.predict(images).details["patch"].float()
        count = tokens.shape[1]
        adapter, once = _timed(lambda: TokenAdapter(network.prompt_features, network.text_anchors[0], settings, count))
        adapter(tokens)
        rounds = [
            (_timed(lambda: network.predict(images))[1], _timed(lambda: adapter(tokens))[1])
            for _ in range(0, options.slices, options.batch)
        ]
    encoder, adaptation = (sum(seconds) / len(rounds) / options.batch for seconds in zip(*rounds, strict=True))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{options.slices} slices in batches of {options.batch}, {settings.steps} steps, {options.precision} encoder")
    print(f"{torch.get_num_threads()} threads, load average {load}")
    print(f"   encoder: {encoder * 1000:.0f} ms per slice")
    print(f"adaptation: {adaptation * 1000:.0f} ms per slice, once for a network {once * 1000:.0f} ms")
    median = statistics.median(part / whole for whole, part in rounds)
    print(f"adaptation / encoder: {adaptation / encoder:.1%}, median of the batches {median:.1%}")


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()

"""What AnoCLIP's test-time adaptation costs: its time over the encoder's, in one run.

``python -m tests.benchmarks.adaptation_cost [--slices 100] [--batch 4]``. Seeded weights: time does not depend on
their values.
"""

from __future__ import annotations

import argparse
import time

import torch

from monai_zsad.networks import AnoCLIP, TestTimeAdaptation
from monai_zsad.networks.adaptation import adapt_tokens


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
    seconds = {"encoder": 0.0, "adaptation": 0.0}
    settings = TestTimeAdaptation()
    with torch.inference_mode():
        tokens = network.predict(images).details["patch"]
        for _ in range(0, options.slices, options.batch):
            start = time.perf_counter()
            tokens = network.predict(images).details["patch"]
            middle = time.perf_counter()
            adapt_tokens(tokens.float(), network.prompt_features, network.text_anchors[0], settings)
            seconds["encoder"] += middle - start
            seconds["adaptation"] += time.perf_counter() - middle
    print(f"{options.slices} slices in batches of {options.batch}, {settings.steps} steps, {options.precision} encoder")
    for part, value in seconds.items():
        print(f"{part:>11}: {value / options.slices * 1000:.0f} ms per slice")
    print(f"adaptation / encoder: {seconds['adaptation'] / seconds['encoder']:.0%}")


if __name__ == "__main__":
    main()

"""Networks in PyTorch, ONNX Runtime and OpenVINO on this machine's CPU: seconds per slice, ratio, difference of maps.

``python -m tests.benchmarks.runtimes [--bundle tiny_screening] [--architecture ViT-B-16] [--image-size 224]
[--batches 1 8] [--rounds 5] [--seeded]``. One process, one thread each (``OMP_NUM_THREADS`` for more); programs take
turns, so that whatever else the machine does meets all of them. Seconds are of the processor and of the clock, each the
least of all rounds; ratios are over PyTorch in float32. Other programs disturb the processor's seconds least.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from monai_zsad.networks import with_runtime
from monai_zsad.workflow.bundles import build_network, find_bundle, load_weights, read_bundle, released_weights

VARIANTS = ("torch-float32", "torch-bfloat16", "onnx-float32", "openvino-float32", "openvino-bfloat16")


def load(options: argparse.Namespace) -> Any:
    """The bundle's network; weights that it does not bring along are seeded, as times do not depend on them."""
    folder = find_bundle(options.bundle)
    overrides = {"architecture": options.architecture, "image_size": options.image_size, "bundle_root": str(folder)}
    parser = read_bundle(folder, {key: value for key, value in overrides.items() if value is not None})
    network = build_network(parser, folder)
    own = Path(folder) / "models" / "model.pt"
    released = released_weights(parser)
    seeded = options.seeded or not own.is_file()
    load_weights(network, dict.fromkeys(released, "seed:0") if seeded else {}, released, own)
    return network


def timed(module: Callable[[torch.Tensor], torch.Tensor], slices: torch.Tensor) -> tuple[float, float]:
    """Seconds of the processor, of all threads, and of the clock."""
    start, clock = time.process_time(), time.perf_counter()
    module(slices)
    return time.process_time() - start, time.perf_counter() - clock


@torch.inference_mode()
def measure(modules: dict[str, Any], batch: int, size: int, rounds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    slices = torch.nn.functional.interpolate(torch.rand(batch, 3, 24, 24, generator=generator), (size, size))
    results = {name: module(slices).clone() for name, module in modules.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in modules}
    for _ in range(rounds):
        for name, module in modules.items():
            found[name].append(timed(module, slices))
    base = np.min(found["torch-float32"], axis=0)
    for name, seconds in found.items():
        processor, clock = np.min(seconds, axis=0) / batch
        maps, scores = (results[name] - results["torch-float32"])[:, :2].abs().amax((0, 2, 3)).tolist()
        print(
            f"{batch:5} {name:>17} {processor:9.4f} {base[0] / batch / processor:6.2f}x {clock:9.4f} "
            f"{base[1] / batch / clock:6.2f}x {maps:9.1e} {scores:10.1e}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.runtimes", description=__doc__)
    parser.add_argument("--bundle", default="tiny_screening")
    parser.add_argument("--architecture")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seeded", action="store_true", help="random weights even where the bundle has its own")
    options = parser.parse_args()
    network = load(options)
    modules: dict[str, Any] = {}
    for variant in sorted({"torch-float32", *options.variants}, key=VARIANTS.index):
        runtime, precision = variant.split("-")
        own = copy.deepcopy(network) if runtime == "torch" else network
        start = time.perf_counter()
        modules[variant] = with_runtime(own, runtime, precision)
        print(f"{variant}: ready after {time.perf_counter() - start:.1f} s", flush=True)
    print(f"{options.bundle} at {network.image_size}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    print(
        f"{'batch':>5} {'variant':>17} {'cpu s':>9} {'ratio':>7} {'clock s':>9} {'ratio':>7} {'maps':>9} {'score':>10}"
    )
    for batch in options.batches:
        measure(modules, batch, network.image_size, options.rounds)


if __name__ == "__main__":
    main()

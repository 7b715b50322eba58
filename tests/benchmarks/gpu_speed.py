"""Networks on this machine's GPU: ms per slice, ratio, memory, difference of maps; and what transfers take.

``python -m tests.benchmarks.gpu_speed [--bundles crane aaclip ...] [--batches 1 8 32] [--rounds 5] [--variants ...]``.
Networks have the bundles' own sizes and seeded weights, on which time does not depend; the included model has its own.
Times are medians, by CUDA events; ratios are over float32 with one slice. ``tf32`` multiplies float32 matrices in TF32,
``half`` computes the towers in bfloat16 (``precision=bfloat16``), ``amp`` is autocast to float16 (``amp=true``),
``last`` is ``half`` with channels-last pictures and weights, ``compiled`` is ``half`` through ``torch.compile``.
"""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from monai_zsad.workflow.bundles import build_network, find_bundle, load_weights, read_bundle, released_weights

BUNDLES = ("crane", "crane_plus", "aaclip", "anoclip", "anomalyclip", "tiny_screening")
VARIANTS = ("float32", "tf32", "half", "amp", "last", "compiled")
MIB = 2**20


def load(bundle: str) -> Any:
    """The bundle's network on the GPU, in evaluation mode."""
    folder = find_bundle(bundle)
    parser = read_bundle(folder, {"bundle_root": str(folder)})
    network = build_network(parser, folder)
    released, own = released_weights(parser), folder / "models" / "model.pt"
    load_weights(network, {} if own.is_file() else dict.fromkeys(released, "seed:0"), released, own)
    return network.eval().cuda()


def variant_of(network: Any, variant: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network as a variant runs it; ``network`` itself stays as it is."""
    if variant in ("float32", "tf32"):
        return network
    if variant == "amp":

        def run(slices: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cuda", torch.float16):
                return network(slices)

        return run
    low = copy.deepcopy(network)
    low.set_precision("bfloat16")
    if variant == "last":
        low = low.to(memory_format=torch.channels_last)
        return lambda slices: low(slices.to(memory_format=torch.channels_last))
    return torch.compile(low) if variant == "compiled" else low


def timed(run: Callable[[], object], rounds: int) -> float:
    """Median milliseconds."""
    run()
    found = []
    for _ in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        found.append(start.elapsed_time(end))
    return statistics.median(found)


@torch.no_grad()
def measure(bundle: str, options: argparse.Namespace) -> None:
    """Lines of a bundle's table."""
    network = load(bundle)
    size = network.image_size
    generator = torch.Generator().manual_seed(0)
    base: float | None = None
    exact: dict[int, torch.Tensor] = {}
    for variant in options.variants:
        torch.backends.cuda.matmul.allow_tf32 = variant == "tf32"
        module = variant_of(network, variant)
        for batch in options.batches:
            coarse = torch.rand(batch, 3, 24, 24, generator=generator.manual_seed(batch))
            slices = nn.functional.interpolate(coarse, (size, size)).cuda()
            start = time.perf_counter()
            first = module(slices)[:, 0]
            torch.cuda.synchronize()
            ready = time.perf_counter() - start
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
            each = timed(functools.partial(module, slices), options.rounds) / batch
            peak = (torch.cuda.max_memory_allocated() - held) / MIB
            base = base or each
            difference = (first - exact.setdefault(batch, first)).abs().max().item()
            print(
                f"{bundle:>15} {size:4} {variant:>9} {batch:5} {each:9.3f} {base / each:7.2f}x {peak:9.0f} "
                f"{difference:9.1e} {ready:8.1f}",
                flush=True,
            )
        del module, first
        torch.cuda.empty_cache()


def transfers() -> None:
    """A head's volume to the GPU and back, from pageable and from pinned memory."""
    volume = torch.rand(256, 256, 180)
    pinned = volume.pin_memory()
    there = volume.cuda()
    for name, run in {
        "to the GPU": lambda: volume.cuda(),
        "to the GPU, pinned": lambda: pinned.cuda(non_blocking=True),
        "back": lambda: there.cpu(),
        "back, pinned": lambda: pinned.copy_(there, non_blocking=True),
        "pinning": lambda: volume.pin_memory(),
    }.items():
        print(f"256 x 256 x 180 float32, {name}: {timed(run, 9):.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu_speed", description=__doc__)
    parser.add_argument("--bundles", nargs="+", default=list(BUNDLES))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: tests.benchmarks.runtimes measures on the CPU")
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, seeded weights but for tiny_screening")
    transfers()
    print(
        f"{'bundle':>15} {'size':>4} {'variant':>9} {'batch':>5} {'ms/slice':>9} {'ratio':>8} {'peak MiB':>9} "
        f"{'maps':>9} {'first s':>8}"
    )
    for bundle in options.bundles:
        measure(bundle, options)


if __name__ == "__main__":
    main()

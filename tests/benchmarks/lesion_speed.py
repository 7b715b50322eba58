"""Time of a slice in the network, and size of its weights."""

from __future__ import annotations

import os
import time

import torch

from tests.benchmarks.lesion_figures import Row
from tests.benchmarks.lesion_pipeline import Pipeline

REPEATS = 15


def speed(pipeline: Pipeline) -> list[Row]:
    """Median milliseconds of one slice, alone, on one thread and on two. It means something on an idle machine only."""
    network = pipeline.network
    slices = torch.rand(1, 3, network.image_size, network.image_size)
    row: Row = {"load before": os.getloadavg()[0]}
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        seconds = []
        with torch.no_grad():
            for _ in range(REPEATS + 5):
                start = time.perf_counter()
                network(slices)
                seconds.append(time.perf_counter() - start)
        row[f"ms per slice, {count} thread{'s' * (count > 1)}"] = 1000 * sorted(seconds[5:])[REPEATS // 2]
    torch.set_num_threads(threads)
    row["parameters in millions"] = sum(one.numel() for one in network.parameters()) / 1e6
    row["weights in MB"] = pipeline.weights_file.stat().st_size / 1e6 if pipeline.weights_file.is_file() else None
    return [row]

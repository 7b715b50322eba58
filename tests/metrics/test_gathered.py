"""Every metric over two processes gives what one process gives, also where one has no data."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import (
    DiceMaxMetric,
    FrocMetric,
    GatheredMetric,
    ImageRankingMetric,
    PixelRankingMetric,
    ScoreCalibrationMetric,
    SliceRankingMetric,
)
from monai_zsad.metrics.curves import RANKING_METRICS
from monai_zsad.metrics.samples import SAMPLE_METRICS

# Which of the four volumes each of the two processes has.
SHARES = {"uneven": ([0, 1, 2], [3]), "one": ([], [0, 1, 2, 3])}


def all_metrics() -> dict[str, GatheredMetric]:
    found: dict[str, GatheredMetric] = {f"pixel {name}": PixelRankingMetric(name, bins=64) for name in RANKING_METRICS}
    found |= {f"exact pixel {name}": PixelRankingMetric(name, bins=None) for name in RANKING_METRICS}
    found |= {f"image {name}": ImageRankingMetric(name) for name in SAMPLE_METRICS}
    found |= {f"slice {name}": SliceRankingMetric(name) for name in SAMPLE_METRICS}
    return found | {
        "dice": DiceMaxMetric(64),
        "froc": FrocMetric([0.3, 0.5, 0.7], min_voxels=2),
        "calibration": ScoreCalibrationMetric(),
    }


def volumes() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Four volumes of different depth, one of them normal."""
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for depth in (4, 6, 5, 3):
        mask = (torch.rand(1, 7, 6, depth, generator=generator) < 0.1).float() * (depth != 6)
        pairs.append(((torch.rand(mask.shape, generator=generator) + mask / 2) / 1.5, mask))
    return pairs


def results(mine: list[int]) -> dict[str, float]:
    metrics, data = all_metrics(), volumes()
    for number in mine:
        scores, mask = data[number]
        for name, metric in metrics.items():
            metric([scores.amax().reshape(1)] if name.startswith("image") else [scores], [mask])
    return {name: float(metric.aggregate()) for name, metric in metrics.items()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(minutes=5)
    )
    found: dict[str, Any] = {name: results(shares[rank]) for name, shares in SHARES.items()}
    try:
        all_metrics()["froc"].aggregate()
    except ConfigurationError as error:
        found["nothing"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    wanted = results([0, 1, 2, 3])
    assert all(0 < value <= 1 for value in wanted.values()), wanted
    spawn(work, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name in SHARES:
            assert found[name] == pytest.approx(wanted, abs=1e-12)
        assert "nothing to aggregate" in found["nothing"]


def test_rows_one_by_one_and_in_batches() -> None:
    metric, other = ImageRankingMetric(), ImageRankingMetric()
    rows = torch.tensor([[0.9, 1.0], [0.1, 0.0], [0.5, 0.0]], dtype=torch.float64)
    metric.extend(rows)
    for row in rows:
        other.append(row)
    assert metric.aggregate() == other.aggregate() == 1.0
    assert len(metric) == len(other) == 3
    metric.append(torch.tensor([0.2, 1.0]))
    assert metric.aggregate() == 0.75
    np.testing.assert_array_equal(metric.gathered()[:3], rows.numpy())

"""Every metric over two processes gives what one process gives, also where one has no data."""

from __future__ import annotations

import math
import warnings
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
from tests.metrics.test_values import warned

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


def feed(metrics: dict[str, GatheredMetric], mine: list[int], broken: dict[int, float] | None = None) -> None:
    """Give volumes by their numbers; two voxels of those in ``broken`` become what stands there."""
    data = volumes()
    for number in mine:
        scores, mask = data[number]
        if broken and number in broken:
            scores[0, 2, 2, :2] = broken[number]
        for name, metric in metrics.items():
            metric([scores.amax().reshape(1)] if name.startswith("image") else [scores], [mask])


def results(mine: list[int]) -> dict[str, float]:
    metrics = all_metrics()
    feed(metrics, mine)
    return {name: float(metric.aggregate()) for name, metric in metrics.items()}


def broken_results(mine: list[int], broken: dict[int, float]) -> dict[str, tuple[float, str]]:
    metrics = all_metrics()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feed(metrics, mine, broken)
    return {name: warned(metric.aggregate) for name, metric in metrics.items()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(minutes=5)
    )
    found: dict[str, Any] = {name: results(shares[rank]) for name, shares in SHARES.items()}
    found["broken"] = {name: broken_results(shares[rank], {3: math.nan}) for name, shares in SHARES.items()}
    try:
        all_metrics()["froc"].aggregate()
    except ConfigurationError as error:
        found["nothing"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # else ignite warns that the ranks share a GPU
    wanted = results([0, 1, 2, 3])
    assert all(0 < value <= 1 for value in wanted.values()), wanted
    spawn(work, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name in SHARES:
            assert found[name] == pytest.approx(wanted, abs=1e-12)
        for name, index in (("uneven", 0), ("one", 3)):
            for figure, (value, said) in found["broken"][name].items():
                count = 1 if figure.startswith("image") else 2
                assert math.isnan(value), figure
                assert f"hold {count} values that are not finite ({count} at index {index} of process 1)" in said
        assert "nothing to aggregate" in found["nothing"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("number", [1, 3])
def test_scores_that_are_not_finite_make_every_figure_nan_until_reset(value: float, number: int) -> None:
    """Number 1 has nothing anomalous."""
    metrics = all_metrics()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feed(metrics, [0, 1, 2, 3], {number: value})
        feed(metrics, [0])
    for name, metric in metrics.items():
        # The least score of an image does not show in its largest.
        if name.startswith("image") and value == -math.inf:
            continue
        for take in (metric.aggregate, *([metric.bounds] if hasattr(metric, "bounds") else [])):
            found, said = warned(take)
            assert np.isnan(found).all(), name
            count = 1 if name.startswith("image") else 2
            assert f"is NaN: scores hold {count} values that are not finite ({count} at index {number})" in said
        metric.reset()
        assert metric.undefined() == ""
    wanted = results([0, 1, 2, 3])
    feed(metrics, [0, 1, 2, 3])
    assert {name: metric.aggregate() for name, metric in metrics.items()} == wanted


def test_several_broken_samples_of_batches_are_all_named() -> None:
    metric = ImageRankingMetric()
    metric(torch.tensor([0.1, math.nan]), torch.tensor([0, 1]))
    assert "(1 at index 1)" in warned(metric.aggregate)[1]
    metric(torch.tensor([math.inf, 0.3]), torch.tensor([0, 1]))
    assert "2 values that are not finite (1 at index 1, 1 at index 2)" in warned(metric.aggregate)[1]
    with pytest.raises(ConfigurationError, match="truth holds NaN"):
        metric(torch.tensor([math.nan]), torch.tensor([math.nan]))
    assert "hold 2 values" in metric.undefined()


def test_a_map_that_is_broken_outside_the_body_counts_too() -> None:
    metric = SliceRankingMetric()
    maps, masks, body = (torch.rand(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4), torch.ones(1, 1, 4, 4, 4))
    masks[..., 1], body[..., 0] = 1, 0
    maps[0, 0, 0, 0, 0] = math.nan
    metric(maps, masks, body=body)
    assert math.isnan(warned(metric.aggregate)[0])


def test_rows_of_nan_that_are_given_as_rows_are_nan_too() -> None:
    for bins in (8, None):
        metric = PixelRankingMetric("auroc", bins=bins)
        metric.extend(torch.full((1, metric.columns), math.nan, dtype=torch.float64))
        found, said = warned(metric.aggregate)
        assert math.isnan(found)
        assert "not finite" in said


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

"""The registry of metrics: a new entry reaches all outputs; entries agree with their forms for MONAI evaluators."""

from __future__ import annotations

import csv
import io
import json
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_zsad.evaluation.metrics import METRICS, Metric, metric_table, registry
from monai_zsad.evaluation.metrics.registry import metrics_of
from monai_zsad.evaluation.scoring import score_run
from monai_zsad.metrics import lesion_froc, ranking_curve, slice_scores
from tests.evaluation.test_scoring import make_run

RNG = np.random.default_rng(0)
TRUTH = np.zeros((4, 8, 8), bool)
TRUTH[1, 1:5, 1:5] = TRUTH[3, 4:7, 2:6] = True
MAPS = RNG.random(TRUTH.shape) * 0.5 + 0.4 * TRUTH
SCORES, LABELS = np.array([0.1, 0.7, 0.4, 0.9]), np.array([0, 1, 1, 0])


def test_an_entry_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    new = Metric(
        "image_share", "share above 0.5", "image", "scores", lambda scores, _labels: float((scores > 0.5).mean())
    )
    entries = types.MappingProxyType({**METRICS, new.name: new})
    for module in ("monai_zsad.evaluation.metrics.registry", "monai_zsad.evaluation.metrics.estimates"):
        monkeypatch.setattr(f"{module}.METRICS", entries)
    monkeypatch.setattr("monai_zsad.evaluation.tables.METRICS", entries)
    score_run(make_run(tmp_path), bootstrap=5)
    texts = {
        file: (tmp_path / file).read_text(encoding="utf-8") for file in ("figures.md", "index.html", "figures.csv")
    }
    assert "| share above 0.5 |" in texts["figures.md"]
    assert "share above 0.5" in texts["index.html"]
    rows = [row for row in csv.DictReader(io.StringIO(texts["figures.csv"])) if row["figure"] == new.name]
    assert [row["scope"] for row in rows] == ["candle", "cashew", "mean"]
    assert all(row["low"] != "nan" for row in rows)
    content = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert sum(row["figure"] == new.name for row in content["figures"]) == 3
    assert f"`{new.name}`" in metric_table()


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if metric.streaming])
def test_the_form_for_monai_evaluators_agrees(name: str) -> None:
    metric = METRICS[name]
    assert metric.streaming is not None
    streaming = metric.streaming()
    if metric.samples == "scores" and metric.level != "slice":
        streaming(torch.from_numpy(SCORES), torch.from_numpy(LABELS))
        wanted = metric.value(SCORES, LABELS)
    else:
        maps, masks = (torch.from_numpy(part.astype(np.float64))[:, None] for part in (MAPS, TRUTH))
        if metric.level in ("slice", "lesion"):
            # One volume.
            maps, masks = (part.movedim(0, -1)[None] for part in (maps, masks))
            volume, truth = (part[0, 0].numpy() for part in (maps, masks))
        streaming(maps, masks)
        if metric.level == "slice":
            quantile = registry.SLICE_QUANTILE if metric.slice_score == "quantile" else 1.0
            kept, scores = slice_scores(volume, np.ones(volume.shape), quantile)
            wanted = metric.value(scores, np.asarray(truth.any((0, 1)))[kept])
        elif metric.level == "lesion":
            thresholds = np.linspace(0.02, 1, 50)
            wanted = metric.value(lesion_froc(volume, truth, thresholds=thresholds))
        elif metric.samples == "maps":
            wanted = metric.value(list(MAPS), list(TRUTH))
        else:
            wanted = metric.value(ranking_curve(list(MAPS), list(TRUTH), regions=True), 0.3)
    value = streaming.aggregate()
    # Forms from histograms say how far they may be from the exact value.
    low, high = streaming.bounds() if hasattr(streaming, "bounds") else (value, value)
    assert 0 < low - 1e-6 <= wanted <= high + 1e-6


def test_names_are_unique_and_groups_cover_all() -> None:
    groups = {(one.level, one.samples) for one in METRICS.values()}
    assert sum(len(metrics_of(*group)) for group in groups) == len(METRICS) == len(registry._ENTRIES)
    assert len(metric_table().splitlines()) == len(METRICS) + 2

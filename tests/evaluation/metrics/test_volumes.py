"""Metrics of volumes are those of the arrays inside the region."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from monai_zsad.evaluation.metrics.estimates import MEAN, POOLED, Findings, Scoring
from monai_zsad.evaluation.metrics.volumes import volume_findings
from monai_zsad.evaluation.predictions import Prediction, save_prediction
from monai_zsad.metrics import auroc, average_precision, dice_max, f1_max, lesion_froc, slice_scores

SHAPE = (24, 20, 8)
NO_INTERVALS = Scoring(bootstrap=0, min_voxels=4)


def volume(seed: int, lesions: int = 3) -> Prediction:
    rng = np.random.default_rng(seed)
    truth = np.zeros(SHAPE, bool)
    for row, column, level in rng.integers((2, 2, 1), (18, 14, 5), (lesions, 3)):
        truth[row : row + 3, column : column + 3, level : level + 2] = True
    region = np.zeros(SHAPE, bool)
    region[1:-1, 1:-1] = True
    anomaly = np.clip(rng.random(SHAPE) * 0.8 + 0.4 * truth, 0, 1).astype(np.float32)
    # What lies outside must not matter.
    anomaly[0] = 1
    scores = rng.random(SHAPE[2])
    scores[0] = np.nan
    return Prediction(
        f"case{seed}", "brain", int(truth.any()), float(anomaly[region].max()), anomaly, truth, region, scores,
        np.zeros(SHAPE[:2], np.uint8), 3, np.diag([1.0, 1.0, 2.0, 1.0]),
    )  # fmt: skip


def value(found: Findings, name: str, scope: str) -> float:
    return next(one.value for one in found.estimates if (one.name, one.scope) == (name, scope))


@pytest.fixture(scope="module")
def cases() -> list[Prediction]:
    return [volume(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def found(cases: list[Prediction], tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("volumes")
    return volume_findings([save_prediction(one, folder) for one in cases], NO_INTERVALS)


def inside(one: Prediction) -> tuple[np.ndarray, np.ndarray]:
    assert one.region is not None
    assert one.truth is not None
    return one.anomaly[one.region], one.truth[one.region]


def test_of_each_volume(cases: list[Prediction], found: Findings) -> None:
    for one in cases:
        assert one.region is not None
        assert one.truth is not None
        scores, truth = inside(one)
        froc = lesion_froc(one.anomaly, one.truth, one.region, min_voxels=4, min_lesion=3)
        kept, peaks = slice_scores(one.anomaly, one.region)
        anomalous = (one.truth & one.region).any((0, 1))[kept]
        assert one.slice_scores is not None
        wanted = {
            "voxel_auroc": auroc(scores, truth),
            "voxel_average_precision": average_precision(scores, truth),
            "voxel_f1_max": f1_max(scores, truth).value,
            "slice_auroc": auroc(peaks, anomalous),
            "slice_auroc_own": auroc(np.nan_to_num(one.slice_scores), anomalous),
            "sensitivity_at_1": froc.at(1),
            "sensitivity_at_8": froc.at(8),
            "mean_sensitivity": froc.mean_sensitivity(),
        }
        for name, number in wanted.items():
            assert value(found, name, one.case) == pytest.approx(number, abs=1e-12, nan_ok=True), name
        assert found.facts["lesions"][one.case] == froc.lesions
    for name in ("voxel_auroc", "sensitivity_at_8"):
        assert value(found, name, MEAN) == pytest.approx(np.mean([value(found, name, one.case) for one in cases]))


def test_of_all_together(cases: list[Prediction], found: Findings) -> None:
    scores, truths = zip(*map(inside, cases), strict=True)
    assert value(found, "voxel_auroc", POOLED) == pytest.approx(auroc(list(scores), list(truths)), abs=1e-12)
    assert value(found, "voxel_f1_max", POOLED) == pytest.approx(f1_max(list(scores), list(truths)).value, abs=1e-12)
    boxes = [(one.anomaly[1:-1, 1:-1], (one.truth & one.region)[1:-1, 1:-1]) for one in cases]  # type: ignore[operator]
    best = dice_max([anomaly for anomaly, _ in boxes], [truth for _, truth in boxes]).value
    assert value(found, "voxel_dice_max", POOLED) == pytest.approx(best, abs=1e-12)
    single = [value(found, "sensitivity_at_8", one.case) for one in cases]
    assert min(single) - 0.2 <= value(found, "sensitivity_at_8", POOLED) <= 1
    assert {"voxel ROC", "voxel precision-recall", "FROC"} == set(found.curves)
    froc = found.curves["FROC"][POOLED]
    assert (np.diff(froc.x) >= 0).all()
    assert (np.diff(froc.y) >= 0).all()


def test_volumes_without_lesions(cases: list[Prediction], found: Findings, tmp_path: Path) -> None:
    # All have lesions: there is nothing to tell apart.
    one = next(one for one in found.estimates if one.name == "volume_auroc")
    assert np.isnan(one.value)
    assert "none is normal" in one.note
    healthy = dataclasses.replace(
        cases[0], case="healthy", label=0, truth=np.zeros(SHAPE, bool), score=0.1, slice_scores=None
    )
    both = volume_findings([save_prediction(one, tmp_path) for one in (cases[0], healthy)], NO_INTERVALS)
    assert value(both, "volume_auroc", POOLED) == 1
    assert np.isnan(value(both, "sensitivity_at_1", "healthy"))
    assert np.isnan(value(both, "voxel_auroc", MEAN))
    assert not np.isnan(value(both, "sensitivity_at_1", POOLED))
    # Only one of the two has scores of the network's own.
    assert not any(one.name == "slice_auroc_own" and one.scope in (MEAN, POOLED) for one in both.estimates)


def test_intervals_and_histograms(cases: list[Prediction], found: Findings, tmp_path: Path) -> None:
    paths = [save_prediction(one, tmp_path) for one in cases]
    again = volume_findings(paths, Scoring(bootstrap=25, min_voxels=4, exact_pixels=1000))
    for name in ("voxel_auroc", "voxel_average_precision", "voxel_f1_max", "voxel_aupro"):
        one = next(one for one in again.estimates if (one.name, one.scope) == (name, POOLED))
        assert one.value == pytest.approx(value(found, name, POOLED), abs=2e-2)
        assert one.low <= one.high
        assert "from histograms" in one.note
    mean = next(one for one in again.estimates if (one.name, one.scope) == ("voxel_auroc", MEAN))
    assert mean.low <= mean.value <= mean.high

"""Metrics of images are those of the arrays themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_zsad.evaluation.metrics.estimates import MEAN, Findings, Scoring
from monai_zsad.evaluation.metrics.images import image_findings
from monai_zsad.evaluation.predictions import Prediction, save_prediction
from monai_zsad.metrics import (
    aupro,
    aupro_released,
    auroc,
    average_precision,
    dice_max,
    expected_calibration_error,
    f1_max,
)
from tests.evaluation.runs import random_predictions

PLAIN = {"scaling": "none", "image_score": "network"}
NO_INTERVALS = Scoring(bootstrap=0)


def findings(
    folder: Path,
    classes: dict[str, list[Prediction]],
    scoring: Scoring = NO_INTERVALS,
    masks: bool = True,
    **protocol: str,
) -> Findings:
    files = {name: [save_prediction(one, folder) for one in own] for name, own in classes.items()}
    return image_findings(files, PLAIN | protocol, scoring, masks)


def value(found: Findings, name: str, scope: str) -> float:
    return next(one.value for one in found.estimates if (one.name, one.scope) == (name, scope))


def direct(predictions: list[Prediction], scores: np.ndarray | None = None, maps: Any = None) -> dict[str, float]:
    labels = [one.label for one in predictions]
    own = np.array([one.score for one in predictions]) if scores is None else scores
    maps = np.stack([one.anomaly for one in predictions]) if maps is None else maps
    masks = np.stack([one.truth for one in predictions if one.truth is not None])
    return {
        "image_auroc": auroc(own, labels),
        "image_average_precision": average_precision(own, labels),
        "image_f1_max": f1_max(own, labels).value,
        "image_calibration_error": expected_calibration_error(own, labels),
        "pixel_auroc": auroc(maps, masks),
        "pixel_average_precision": average_precision(maps, masks),
        "pixel_f1_max": f1_max(maps, masks).value,
        "pixel_aupro": aupro(maps, masks),
        "pixel_aupro_released": aupro_released(maps, masks),
        "pixel_dice_max": dice_max(maps, masks).value,
    }


@pytest.fixture(scope="module")
def classes() -> dict[str, list[Prediction]]:
    return {name: random_predictions(8, seed=seed, class_name=name) for seed, name in enumerate("ab")}


def test_values_are_those_of_the_arrays(tmp_path: Path, classes: dict[str, list[Prediction]]) -> None:
    found = findings(tmp_path, classes)
    wanted = {name: direct(own) for name, own in classes.items()}
    for metric in wanted["a"]:
        for name in classes:
            assert value(found, metric, name) == pytest.approx(wanted[name][metric], abs=1e-12)
        mean = np.mean([wanted[name][metric] for name in classes])
        assert value(found, metric, MEAN) == pytest.approx(mean, abs=1e-12)
    assert 0.5 < value(found, "pixel_auroc", "a") < 1
    counts = {(one.scope, one.normal, one.anomalous) for one in found.estimates}
    assert counts == {("a", 4, 4), ("b", 4, 4), (MEAN, 8, 8)}
    assert [case.case for case in found.cases] == [one.case for own in classes.values() for one in own]


def test_intervals_hold_the_values_and_are_repeatable(tmp_path: Path, classes: dict[str, list[Prediction]]) -> None:
    found = findings(tmp_path, classes, Scoring(bootstrap=60))
    # NaN is not equal to itself, its text is.
    assert repr(found.estimates) == repr(findings(tmp_path, classes, Scoring(bootstrap=60)).estimates)
    with_interval = [one for one in found.estimates if not np.isnan(one.low)]
    assert len(with_interval) == 3 * 8
    for one in with_interval:
        assert one.low <= one.high
        if one.name != "image_calibration_error":
            assert one.low - 0.01 <= one.value <= one.high + 0.01, one
    assert any(one.high - one.low > 0.05 for one in with_interval)


@pytest.mark.parametrize("image_score", ["map", "mean"])
def test_scaling_over_a_class(tmp_path: Path, image_score: str) -> None:
    own = [
        dataclasses.replace(one, anomaly=30 * one.anomaly - 7, score=5 * one.score + 1) for one in random_predictions(8)
    ]
    found = findings(tmp_path, {"brain": own}, scaling="class", image_score=image_score)
    maps = np.stack([one.anomaly for one in own])
    maps = (maps - maps.min()) / (maps.max() - maps.min())
    scores = np.array([one.score for one in own])
    peaks = maps.max((1, 2))
    scores = (scores - scores.min()) / (scores.max() - scores.min())
    scores = peaks if image_score == "map" else (peaks + scores) / 2
    for name, wanted in direct(own, scores, maps).items():
        assert value(found, name, "brain") == pytest.approx(wanted, abs=1e-5)


def test_what_has_one_as_its_largest_value_is_not_scaled(tmp_path: Path) -> None:
    own = random_predictions(6)
    own[1].anomaly[0, 0] = 1.0
    scores = np.array([one.anomaly.max() for one in own])
    found = findings(tmp_path, {"brain": own}, scaling="class", image_score="map")
    assert [case.score for case in found.cases] == pytest.approx(list(scores), abs=1e-6)


def test_a_class_without_anomalies_is_nan_and_said(tmp_path: Path, classes: dict[str, list[Prediction]]) -> None:
    normal = [dataclasses.replace(one, case=f"c/{n}") for n, one in enumerate(classes["a"][::2])]
    found = findings(tmp_path, {"a": classes["a"], "c": normal}, Scoring(bootstrap=10))
    for one in found.estimates:
        if one.name == "image_calibration_error":
            assert not np.isnan(one.value)
        elif one.scope == "c":
            assert np.isnan(one.value)
            assert "anomalous" in one.note
        elif one.scope == MEAN:
            assert np.isnan(one.value)
            assert one.note == "not defined for c"
        else:
            assert not np.isnan(one.value)


def test_without_masks_only_images_are_scored(tmp_path: Path) -> None:
    own = [dataclasses.replace(one, truth=None) for one in random_predictions(6)]
    found = findings(tmp_path, {"brain": own}, masks=False)
    assert {one.name.partition("_")[0] for one in found.estimates} == {"image"}
    assert set(found.curves) == {"image ROC", "image precision-recall"}


def test_too_many_pixels_come_from_histograms_with_bounds(tmp_path: Path) -> None:
    own = random_predictions(8)
    found = findings(tmp_path, {"brain": own}, Scoring(bootstrap=0, exact_pixels=100))
    wanted = direct(own)
    for name in ("pixel_auroc", "pixel_average_precision", "pixel_f1_max", "pixel_aupro"):
        one = next(one for one in found.estimates if one.name == name)
        assert one.value == pytest.approx(wanted[name], abs=1e-3)
        low, high = (float(text) / 100 for text in one.note.rpartition("within ")[2].split(" and "))
        assert low - 1e-5 <= wanted[name] <= high + 1e-5
    assert not any(one.name == "pixel_aupro_released" for one in found.estimates)

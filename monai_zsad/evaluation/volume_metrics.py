"""Figures of volumes: voxels, slices and lesions of each, their mean, and all volumes together."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.evaluation.estimates import (
    MEAN,
    POOLED,
    CaseSummary,
    Curve,
    Figure,
    Findings,
    Scoring,
    figure_of,
    thinned,
)
from monai_zsad.evaluation.predictions import Prediction, load_prediction
from monai_zsad.metrics import (
    FROC_RATES,
    BestThreshold,
    LesionFroc,
    RankingCurve,
    auroc,
    average_precision,
    dice_max,
    histogram_curve,
    lesion_froc,
    pooled_froc,
    region_shares,
    score_histograms,
    slice_scores,
)
from monai_zsad.metrics.curves import RankingName
from monai_zsad.metrics.ranking import curve_of

__all__ = ["volume_findings"]

_RATES = (1, 4, 8)
_RANKINGS: tuple[RankingName, ...] = ("auroc", "average_precision", "f1_max", "aupro")
_QUANTILE = 0.995
_BINS = 4096
_FRACTIONS = np.geomspace(1e-5, 0.2, 48)
_SLICES = {"slice_auroc": "maximum", "slice_auroc_quantile": "quantile", "slice_auroc_own": "own"}


def volume_findings(paths: Sequence[Path], scoring: Scoring) -> Findings:
    """All figures of a set of volumes, inside the region in which voxels count.

    Args:
        paths: of the predictions.
        scoring: what is to be chosen.
    """
    found = Findings()
    rows = [_Volume(load_prediction(path), scoring) for path in paths]
    thresholds = _common_thresholds(paths, scoring)
    curves, histograms = [], []
    places, heights = _even(thresholds)
    for path, row in zip(paths, rows, strict=True):
        one = load_prediction(path)
        inside, truth = _region(one), _truth(one)
        curves.append(_froc(one, scoring, thresholds))
        scaled = np.interp(np.where(inside, one.anomaly, places[0]), places, heights)
        rows_of = score_histograms([scaled], [truth], bins=_BINS)[0]
        # What lies outside the region does not count; its value is in the first bin.
        rows_of[0, 0] -= inside.size - np.count_nonzero(inside)
        histograms.append(rows_of)
        found.figures += row.figures
        found.add_ranking("voxel", one.case, row.curve)
        _add_froc(found, one.case, row.froc)
        found.cases.append(CaseSummary(one.case, one.class_name, one.label, one.score, row.quality))
    counts = (sum(not row.label for row in rows), sum(row.label for row in rows))
    if len(rows) > 1:
        found.figures += _means(rows, counts, scoring)
    found.figures += _pooled(paths, rows, curves, np.stack(histograms), counts, found, scoring)
    slices = [np.concatenate([row.slices[key] for row in rows]) for key in ("maximum", "anomalous")]
    found.scores["slices"] = (slices[0], slices[1])
    found.scores["volumes"] = (np.array([row.score for row in rows]), np.array([row.label for row in rows]))
    found.facts = {"lesions": {row.case: row.froc.lesions for row in rows}}
    return found


class _Volume:
    """Figures of one volume; its arrays are not kept."""

    def __init__(self, one: Prediction, scoring: Scoring) -> None:
        self.case = one.case
        self.label = int(one.label)
        self.score = one.score
        inside, truth = _region(one), _truth(one)
        self.curve = curve_of(*_parts(one))
        self.froc = _froc(one, scoring, None)
        self.slices = _slices(one, inside, truth, scoring.slice_fraction)
        counts = (1 - self.label, self.label)
        takes: dict[str, Callable[[], float | tuple[float, float]]] = {
            "voxel_auroc": self.curve.auroc,
            "voxel_average_precision": self.curve.average_precision,
            "voxel_f1_max": lambda: _pair(self.curve.f1_max()),
            "voxel_aupro": functools.partial(self.curve.aupro, scoring.limit),
            **{name: functools.partial(_slice_auroc, [self], kind) for name, kind in _SLICES.items()},
            **{f"sensitivity_at_{rate}": functools.partial(self.froc.at, rate) for rate in _RATES},
            "mean_sensitivity": functools.partial(self.froc.mean_sensitivity, FROC_RATES),
        }
        self.figures = [
            figure_of(name, one.case, take, counts, scoring)
            for name, take in takes.items()
            if name != "slice_auroc_own" or "own" in self.slices
        ]
        self.quality = next(item.value for item in self.figures if item.name == "voxel_average_precision")


def _region(one: Prediction) -> np.ndarray:
    return np.ones(one.anomaly.shape, dtype=bool) if one.region is None else one.region


def _truth(one: Prediction) -> np.ndarray:
    return np.zeros(one.anomaly.shape, dtype=bool) if one.truth is None else one.truth & _region(one)


def _froc(one: Prediction, scoring: Scoring, thresholds: np.ndarray | None) -> LesionFroc:
    with warnings.catch_warnings():
        # Said where a figure of it is taken.
        warnings.simplefilter("ignore")
        return lesion_froc(
            one.anomaly,
            _truth(one),
            _region(one),
            thresholds=thresholds,
            min_lesion=scoring.min_lesion,
            min_voxels=scoring.min_voxels,
            min_overlap=scoring.min_overlap,
        )


def _slices(one: Prediction, inside: np.ndarray, truth: np.ndarray, fraction: float) -> dict[str, np.ndarray]:
    """Scores of the slices that have enough of the region, in three ways, and whether each is anomalous."""
    kept, peaks = slice_scores(one.anomaly, inside, 1.0, fraction)
    found = {"maximum": peaks, "quantile": slice_scores(one.anomaly, inside, _QUANTILE, fraction)[1]}
    found["anomalous"] = np.asarray(truth.any((0, 1)))[kept]
    if one.slice_scores is not None:
        # A slice that the network left out has map and score 0.
        found["own"] = np.nan_to_num(one.slice_scores[kept], nan=0.0)
    return found


def _slice_auroc(rows: Sequence[_Volume], kind: str) -> float:
    scores, anomalous = (np.concatenate([row.slices[key] for row in rows]) for key in (kind, "anomalous"))
    return auroc(scores, anomalous)


def _common_thresholds(paths: Sequence[Path], scoring: Scoring) -> np.ndarray:
    """Quantiles of all volumes together: thresholds for one FROC curve, whatever the map's scale."""
    share = max(1, sum(load_prediction(path).anomaly.size for path in paths) // scoring.exact_pixels)
    values = np.concatenate([one.anomaly[_region(one)][::share] for one in map(load_prediction, paths)])
    return np.unique(np.quantile(values, 1 - _FRACTIONS, method="higher"))


def _even(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and heights of a monotone function that spreads the upper end of the map's scale over [0, 1]."""
    low = np.linspace(min(0.0, float(edges[0])), float(edges[0]), 50)
    high = np.linspace(float(edges[-1]), max(1.0, float(edges[-1])), 50)
    places = np.unique(np.concatenate([low, edges, high]))
    return places, np.linspace(0, 1, len(places))


def _means(rows: Sequence[_Volume], counts: tuple[int, int], scoring: Scoring) -> list[Figure]:
    found = []
    for name in dict.fromkeys(figure.name for row in rows for figure in row.figures):
        values = np.array([figure.value for row in rows for figure in row.figures if figure.name == name])
        if len(values) < len(rows):
            continue
        lacking = [row.case for row, value in zip(rows, values, strict=True) if np.isnan(value)]
        note = f"not defined for {', '.join(lacking)}" if lacking else ""
        resampled: Any = (_mean, (values,), None)
        found.append(figure_of(name, MEAN, functools.partial(_mean, values), counts, scoring, resampled, note))
    return found


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _pooled(
    paths: Sequence[Path],
    rows: Sequence[_Volume],
    curves: Sequence[LesionFroc],
    histograms: np.ndarray,
    counts: tuple[int, int],
    found: Findings,
    scoring: Scoring,
) -> list[Figure]:
    """Voxels, slices, lesions and volumes of all scans together."""
    curve, note = _voxel_curve(paths, histograms, scoring)
    froc = pooled_froc(curves)
    if len(rows) > 1:
        found.add_ranking("voxel", POOLED, curve)
        _add_froc(found, POOLED, froc)
    figures = [
        figure_of(
            f"voxel_{kind}",
            POOLED,
            functools.partial(_of_curve, curve, kind, scoring.limit),
            counts,
            scoring,
            (functools.partial(_of_histograms, kind, scoring.limit), (histograms,), None),
            note,
        )
        for kind in _RANKINGS
    ]
    if not note:
        figures.append(figure_of("voxel_dice_max", POOLED, lambda: _pair(_dice_max(paths)), counts, scoring))
    for name, kind in _SLICES.items():
        if all(kind in row.slices for row in rows):
            metric = functools.partial(_drawn_slices, kind)
            figures.append(
                figure_of(
                    name, POOLED, functools.partial(_slice_auroc, rows, kind), counts, scoring, (metric, (rows,), None)
                )
            )
    sensitivities = {f"sensitivity_at_{rate}": (rate,) for rate in _RATES} | {"mean_sensitivity": FROC_RATES}
    figures += [
        figure_of(
            name,
            POOLED,
            functools.partial(froc.mean_sensitivity, rates),
            counts,
            scoring,
            (functools.partial(_drawn_sensitivity, rates), (curves,), None),
        )
        for name, rates in sensitivities.items()
    ]
    scores, labels = np.array([row.score for row in rows]), np.array([row.label for row in rows])
    for name, metric_of in (("volume_auroc", auroc), ("volume_average_precision", average_precision)):
        figures.append(
            figure_of(
                name,
                POOLED,
                functools.partial(metric_of, scores, labels),
                counts,
                scoring,
                (metric_of, (scores, labels), labels),
            )
        )
    return figures


def _voxel_curve(paths: Sequence[Path], histograms: np.ndarray, scoring: Scoring) -> tuple[RankingCurve, str]:
    if histograms[:, :2].sum() > scoring.exact_pixels:
        return histogram_curve(histograms.sum(0)), f"from histograms of {histograms.shape[-1]} bins"
    normal, anomalous, shares = zip(*(_parts(load_prediction(path)) for path in paths), strict=True)
    return curve_of(np.concatenate(normal), np.concatenate(anomalous), np.concatenate(shares)), ""


def _parts(one: Prediction) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of normal and of anomalous voxels inside the region, and the latters' shares of their lesions."""
    inside, truth = _region(one), _truth(one)
    return one.anomaly[inside & ~truth], one.anomaly[truth], region_shares(truth)


def _dice_max(paths: Sequence[Path]) -> BestThreshold:
    """Voxels outside the region score lowest, so that no useful threshold finds them."""
    maps, masks = [], []
    for one in map(load_prediction, paths):
        inside = _region(one)
        maps.append(np.where(inside, one.anomaly, one.anomaly[inside].min()))
        masks.append(_truth(one))
    return dice_max(maps, masks)


def _of_curve(curve: RankingCurve, kind: RankingName, limit: float) -> float | tuple[float, float]:
    return _pair(curve.f1_max()) if kind == "f1_max" else curve.value(kind, limit)


def _of_histograms(kind: RankingName, limit: float, histograms: np.ndarray) -> float:
    return histogram_curve(histograms.sum(0)).value(kind, limit)


def _drawn_slices(kind: str, rows: Sequence[_Volume]) -> float:
    return _slice_auroc(rows, kind)


def _drawn_sensitivity(rates: Sequence[float], curves: Sequence[LesionFroc]) -> float:
    return pooled_froc(curves).mean_sensitivity(rates)


def _pair(best: BestThreshold) -> tuple[float, float]:
    return float(best.value), float(best.threshold)


def _add_froc(found: Findings, scope: str, froc: LesionFroc) -> None:
    if froc.lesions:
        order = np.argsort(froc.false_positives, kind="stable")
        # What a threshold with at most so many false positives reaches.
        best = np.maximum.accumulate(froc.sensitivity[order])
        curve: Curve = thinned(froc.false_positives[order], best)
        found.curves.setdefault("FROC", {})[scope] = curve

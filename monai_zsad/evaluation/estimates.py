"""Figures as an evaluation states them: a value, its interval, what it was taken of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics import RankingCurve, bootstrap_interval

__all__ = ["FIGURE_TITLES", "CaseSummary", "Curve", "Figure", "Findings", "Scoring", "figure_of"]

MEAN, POOLED = "mean", "all together"

FIGURE_TITLES: dict[str, str] = {
    "image_auroc": "image AUROC",
    "image_average_precision": "image AP",
    "image_f1_max": "image F1-max",
    "image_calibration_error": "image ECE",
    "pixel_auroc": "pixel AUROC",
    "pixel_average_precision": "pixel AP",
    "pixel_f1_max": "pixel F1-max",
    "pixel_aupro": "pixel AUPRO",
    "pixel_aupro_released": "pixel AUPRO as released",
    "pixel_dice_max": "Dice-max",
    "voxel_auroc": "voxel AUROC",
    "voxel_average_precision": "voxel AP",
    "voxel_f1_max": "best Dice",
    "voxel_dice_max": "Dice-max of one threshold",
    "voxel_aupro": "voxel AUPRO",
    "slice_auroc": "slice AUROC (maximum)",
    "slice_auroc_quantile": "slice AUROC (99.5 %)",
    "slice_auroc_own": "slice AUROC (own score)",
    "volume_auroc": "volume AUROC",
    "volume_average_precision": "volume AP",
    "sensitivity_at_1": "sensitivity at 1 FP",
    "sensitivity_at_4": "sensitivity at 4 FP",
    "sensitivity_at_8": "sensitivity at 8 FP",
    "mean_sensitivity": "mean sensitivity (FROC)",
}
"""Name of a figure to its title; the order is that of tables."""


@dataclass(frozen=True)
class Scoring:
    """What a reader may choose when figures are taken; predictions do not depend on it.

    Attributes:
        bootstrap: resamples of an interval; 0 for no intervals.
        seed: of the resampling.
        limit: false positive rate up to which AUPRO is integrated.
        min_lesion: smallest lesion in voxels, of volumes.
        min_voxels: smallest candidate, see :func:`~monai_zsad.metrics.lesion_froc`.
        min_overlap: share of a candidate that must lie in lesions, see there.
        slice_fraction: slices of a volume with less of the region than this fraction of their area do not count.
        exact_pixels: above so many pixels of a class its figures come from histograms, with their bounds.
    """

    bootstrap: int = 200
    seed: int = 0
    limit: float = 0.3
    min_lesion: int = 3
    min_voxels: int = 10
    min_overlap: float = 0.1
    slice_fraction: float = 0.02
    exact_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        if self.bootstrap < 0 or self.min_lesion < 1 or self.min_voxels < 1 or self.exact_pixels < 1:
            raise ConfigurationError(f"{self}: give numbers of at least 1, and for bootstrap of at least 0")
        if not (0 <= self.min_overlap <= 1 and 0 <= self.slice_fraction <= 1 and 0 < self.limit <= 1):
            raise ConfigurationError(f"{self}: min_overlap, slice_fraction and limit lie within 0 and 1")


@dataclass(frozen=True)
class Figure:
    """One number of the table.

    Attributes:
        name: key of :data:`FIGURE_TITLES`.
        scope: class, case, ``"mean"`` over these, or ``"all together"``.
        value: within [0, 1]; NaN where it is not defined.
        low: lower end of the 95 % interval; NaN without.
        high: its upper end.
        normal: normal images that it was taken of; of volumes their number without a lesion.
        anomalous: anomalous ones.
        threshold: that gives it, of figures that are the best of all thresholds; NaN otherwise.
        note: why it is not defined, or how exact it is.
    """

    name: str
    scope: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    normal: int = 0
    anomalous: int = 0
    threshold: float = float("nan")
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """A curve for a plot: equally long rising ``x`` and ``y``."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class CaseSummary:
    """What is shown of a case.

    Attributes:
        case: its id.
        class_name: of the set.
        label: 0 normal, 1 anomalous.
        score: that was ranked, scaled where the protocol scales.
        quality: average precision of its pixels; NaN without mask.
    """

    case: str
    class_name: str
    label: int
    score: float
    quality: float = float("nan")


@dataclass
class Findings:
    """All that was found of a set.

    Attributes:
        figures: in the order of scopes.
        curves: kind (``"image ROC"``, ``"pixel PR"``, ``"FROC"``, ...) to its curves by scope.
        cases: one for each case.
        scores: what is scored (``"images"``, ``"slices"``, ``"volumes"``) to scores and labels, for histograms.
        facts: numbers to be shown beside, such as lesions.
    """

    figures: list[Figure] = field(default_factory=list)
    curves: dict[str, dict[str, Curve]] = field(default_factory=dict)
    cases: list[CaseSummary] = field(default_factory=list)
    scores: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def add_ranking(self, level: str, scope: str, curve: RankingCurve) -> None:
        """Keep ROC and precision-recall curves, thinned for a plot."""
        if curve.positives and curve.negatives:
            self.curves.setdefault(f"{level} ROC", {})[scope] = thinned(*curve.roc())
            precision, recall = curve.precision_recall()
            self.curves.setdefault(f"{level} precision-recall", {})[scope] = thinned(recall, precision)


def figure_of(
    name: str,
    scope: str,
    value: Callable[[], float | tuple[float, float]],
    counts: tuple[int, int],
    scoring: Scoring,
    resampled: tuple[Callable[..., float], Sequence[Any], Any] | None = None,
    note: str = "",
) -> Figure:
    """Take a figure; its warnings become its note.

    Args:
        name: key of :data:`FIGURE_TITLES`.
        scope: see :class:`Figure`.
        value: gives the figure, or the figure and its threshold.
        counts: normal and anomalous images.
        scoring: with the number of resamples.
        resampled: metric, samples and strata of :func:`~monai_zsad.metrics.bootstrap_interval`.
        note: in place of warnings, if there are none.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = value()
    number, threshold = found if isinstance(found, tuple) else (found, float("nan"))
    low = high = float("nan")
    if resampled is not None and scoring.bootstrap and not np.isnan(number):
        metric, samples, strata = resampled
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interval = bootstrap_interval(
                metric, *samples, resamples=scoring.bootstrap, seed=scoring.seed, strata=strata
            )
        low, high = interval.low, interval.high
    said = "; ".join(dict.fromkeys(str(warning.message) for warning in caught)) if np.isnan(number) else ""
    return Figure(name, scope, float(number), low, high, *counts, float(threshold), said or note)


def thinned(x: np.ndarray, y: np.ndarray, points: int = 400) -> Curve:
    """A curve of at most so many points, evenly along its length."""
    if len(x) <= points:
        return Curve(np.asarray(x), np.asarray(y))
    steps = np.abs(np.diff(x)) + np.abs(np.diff(y))
    length = np.concatenate([[0.0], np.cumsum(steps)])
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points)).clip(0, len(x) - 1))
    return Curve(np.asarray(x)[kept], np.asarray(y)[kept])

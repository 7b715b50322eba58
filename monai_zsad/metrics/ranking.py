"""AUROC, average precision and F1-max of scores, exactly, by sorting."""

from __future__ import annotations

import numpy as np

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics.curves import BestThreshold, RankingCurve
from monai_zsad.metrics.values import (
    Images,
    image_pairs,
    not_finite,
    region_shares,
    whole_pairs,
    why_undefined,
)

__all__ = ["auroc", "average_precision", "curve_of", "f1_max", "parted", "ranking_curve"]


def ranking_curve(scores: Images, truth: Images, *, regions: bool = False) -> RankingCurve:
    """The curve from which all exact metrics and plots are read, after one sort.

    Args:
        scores: an array of any shape, or a sequence of arrays that may differ in shape; any scale.
        truth: the same shapes, above 0 where anomalous.
        regions: count the regions of the truth too, for :meth:`RankingCurve.aupro`. Then ``scores`` are images (H, W)
            or volumes (X, Y, Z), by the first axis or in a sequence, and regions are found in each by itself.

    Returns:
        The curve. If scores are not finite, its metrics are NaN, with a warning that says which scores.

    Raises:
        ConfigurationError: shapes differ, or truth is NaN.

    Example:
        >>> curve = ranking_curve([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
        >>> curve.auroc(), curve.f1_max()
        (0.75, BestThreshold(value=0.8, threshold=0.4))
    """
    return curve_of(*parted(scores, truth, regions=regions))


def parted(scores: Images, truth: Images, *, regions: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, str]:
    """The arguments of :func:`curve_of` from those of :func:`ranking_curve`."""
    normal, found, shares = [], [], []
    broken: dict[str, int] = {}
    for values, anomalous, bad in (image_pairs if regions else whole_pairs)(scores, truth):
        broken |= bad
        normal.append(values[~anomalous])
        found.append(values[anomalous])
        if regions:
            shares.append(region_shares(anomalous))
    if not normal:
        raise ConfigurationError("scores are empty: give at least one image")
    weights = np.concatenate(shares) if regions else None
    return np.concatenate(normal), np.concatenate(found), weights, why_undefined(broken)


def curve_of(
    normal: np.ndarray, anomalous: np.ndarray, shares: np.ndarray | None = None, undefined: str = ""
) -> RankingCurve:
    """The curve of two sets of scores.

    Args:
        normal: (N,) normal scores.
        anomalous: (P,) anomalous scores.
        shares: (P,) as of :func:`region_shares`; without them regions are not counted.
        undefined: why there is no curve, if that is known already. Scores that are not finite are also found here.
    """
    undefined = undefined or why_undefined({"": not_finite(normal) + not_finite(anomalous)})
    if undefined:
        return RankingCurve.nowhere(undefined, float(anomalous.size), float(normal.size))
    ordered = np.sort(normal)
    order = np.argsort(anomalous)[::-1]
    ranked = anomalous[order]
    # The last of each run of equal scores.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if ranked.size else np.zeros(0, dtype=int)
    thresholds = ranked[last]
    overlap = np.zeros(last.shape) if shares is None else np.cumsum(shares[order])[last]
    return RankingCurve(
        thresholds=thresholds,
        found=(last + 1).astype(np.float64),
        passed_before=(ordered.size - np.searchsorted(ordered, thresholds, side="right")).astype(np.float64),
        passed=(ordered.size - np.searchsorted(ordered, thresholds, side="left")).astype(np.float64),
        overlap=overlap,
        positives=float(ranked.size),
        negatives=float(ordered.size),
        # Each region's shares add to 1, up to rounding.
        regions=float(np.round(overlap[-1])) if overlap.size else 0.0,
    )


def auroc(scores: Images, truth: Images) -> float:
    """Area under the ROC curve of images, volumes, slices or pixels, exactly.

    MONAI's ``compute_roc_auc`` walks over all values in Python, which takes minutes for a volume, and gives a number
    where a score is NaN; elsewhere the values are the same. Papers compute it over
    all images, or all pixels, of a class, and give the mean over the classes.

    Args:
        scores: see :func:`ranking_curve`.
        truth: see :func:`ranking_curve`.

    Returns:
        Within [0, 1]; NaN with a warning if all are normal or all are anomalous (releases give 0 there), or if scores
        are not finite.

    Raises:
        ConfigurationError: see :func:`ranking_curve`.

    Example:
        >>> auroc([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
        0.75
    """
    return ranking_curve(scores, truth).auroc()


def average_precision(scores: Images, truth: Images) -> float:
    """Average precision, exactly: the step-wise sum of scikit-learn and torchmetrics, equal scores taken together.

    MONAI's ``compute_average_precision`` gives the same more slowly, and a number where a score is NaN.

    Args:
        scores: see :func:`ranking_curve`.
        truth: see :func:`ranking_curve`.

    Returns:
        As of :func:`auroc`.

    Raises:
        ConfigurationError: see :func:`ranking_curve`.

    Example:
        >>> round(average_precision([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0]), 4)
        0.8333
    """
    return ranking_curve(scores, truth).average_precision()


def f1_max(scores: Images, truth: Images) -> BestThreshold:
    """Largest F1 of all thresholds, and that threshold. For pixels it is the best Dice of all of them together.

    Args:
        scores: see :func:`ranking_curve`.
        truth: see :func:`ranking_curve`.

    Returns:
        Value and threshold; both NaN with a warning, as of :func:`auroc`.

    Raises:
        ConfigurationError: see :func:`ranking_curve`.

    Example:
        >>> f1_max([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
        BestThreshold(value=0.8, threshold=0.4)
    """
    return ranking_curve(scores, truth).f1_max()

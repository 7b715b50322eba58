"""Exact AUROC, average precision and F1-max of scores. The scores are sorted."""

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
    """Sort the scores once, and make the curve that gives all exact metrics and plots.

    Args:
        scores: an array of any shape, or a sequence of arrays that may differ in shape; any scale.
        truth: the same shapes, above 0 where anomalous.
        regions: also count the regions of the truth, for :meth:`RankingCurve.aupro`. Then ``scores`` must be images
            (H, W) or volumes (X, Y, Z), along the first axis or in a sequence. Regions do not extend across images.

    Returns:
        The curve. If a score is not finite, its metrics are NaN, with a warning that names the image.

    Raises:
        ConfigurationError: shapes differ, truth holds NaN, or there are no scores.

    Example:
        >>> curve = ranking_curve([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
        >>> curve.auroc(), curve.f1_max()
        (0.75, BestThreshold(value=0.8, threshold=0.4))
    """
    return curve_of(*parted(scores, truth, regions=regions))


def parted(scores: Images, truth: Images, *, regions: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, str]:
    """Make the arguments of :func:`curve_of` from those of :func:`ranking_curve`."""
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
    """The curve of normal and anomalous scores.

    Args:
        normal: (N,), scores of normal values.
        anomalous: (P,), scores of anomalous values.
        shares: (P,), see :func:`region_shares`. Without them, regions are not counted.
        undefined: reason why there is no curve, if it is known. Scores that are not finite are also found here.
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
    """Area under the ROC curve of images, volumes, slices or pixels. The value is exact.

    MONAI's ``compute_roc_auc`` loops over all values in Python, which takes minutes for a volume. It also returns a
    number if a score is NaN. Otherwise the values are the same. Papers compute the AUROC over all images, or all
    pixels, of a class, and report the mean over the classes.

    Args:
        scores: see :func:`ranking_curve`.
        truth: see :func:`ranking_curve`.

    Returns:
        Within [0, 1]. NaN, with a warning, if all values are normal, all are anomalous, or a score is not finite. If
        all have one label, the releases of the methods give 0.

    Raises:
        ConfigurationError: see :func:`ranking_curve`.

    Example:
        >>> auroc([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
        0.75
    """
    return ranking_curve(scores, truth).auroc()


def average_precision(scores: Images, truth: Images) -> float:
    """Average precision: the step-wise sum of scikit-learn and torchmetrics. Equal scores are one step.

    The value is exact. MONAI's ``compute_average_precision`` gives the same value but is slower. It also returns a
    number if a score is NaN.

    Args:
        scores: see :func:`ranking_curve`.
        truth: see :func:`ranking_curve`.

    Returns:
        Within [0, 1]. NaN, with a warning, in the same cases as :func:`auroc`.

    Raises:
        ConfigurationError: see :func:`ranking_curve`.

    Example:
        >>> round(average_precision([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0]), 4)
        0.8333
    """
    return ranking_curve(scores, truth).average_precision()


def f1_max(scores: Images, truth: Images) -> BestThreshold:
    """Largest F1 over all thresholds, and its threshold. For pixels, this is the best Dice of all pixels together.

    Args:
        scores: see :func:`ranking_curve`.
        truth: see :func:`ranking_curve`.

    Returns:
        Value and threshold. Both are NaN, with a warning, in the same cases as :func:`auroc`.

    Raises:
        ConfigurationError: see :func:`ranking_curve`.

    Example:
        >>> f1_max([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])
        BestThreshold(value=0.8, threshold=0.4)
    """
    return ranking_curve(scores, truth).f1_max()

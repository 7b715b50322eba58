"""Histograms of scores, for sets with too many pixels to keep in memory."""

from __future__ import annotations

import warnings

import numpy as np

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics.curves import RankingCurve
from monai_zsad.metrics.values import Images, image_pairs, not_finite, region_shares, why_undefined

__all__ = ["bin_edges", "histogram_curve", "histogram_rows", "score_histograms"]


def bin_edges(bins: int, score_range: tuple[float, float]) -> np.ndarray:
    """Lower edges (bins,) of the bins, in rising order.

    Raises:
        ConfigurationError: there are no bins, or the range is empty.
    """
    low, high = score_range
    if bins < 1 or not (np.isfinite([low, high]).all() and low < high):
        raise ConfigurationError(
            f"bins={bins!r}, score_range={score_range!r}: give at least one bin, and two finite ends, the lower first"
        )
    return np.linspace(low, high, bins + 1)[:-1]


def histogram_rows(
    scores: np.ndarray, anomalous: np.ndarray, bins: int, score_range: tuple[float, float], *, regions: bool
) -> np.ndarray:
    """Histograms (3, bins) of normal pixels, of anomalous pixels, and of :func:`region_shares` of anomalous pixels.

    If a score is not finite, all values are NaN. Every sum with them is then NaN too.

    Args:
        scores: scores of one image. Scores outside the range count in the outermost bins.
        anomalous: mask of the same shape, bool.
        bins: number of bins.
        score_range: lower and upper end of the range.
        regions: whether to compute the last row. Otherwise it is 0.
    """
    edges = bin_edges(bins, score_range)
    if not_finite(scores):
        return np.full((3, bins), np.nan)
    low, high = score_range
    places = ((scores.astype(np.float64) - low) * (bins / (high - low))).clip(0, bins - 1).astype(np.intp)
    # Rounding must not put a score on the wrong side of an edge, because edges become thresholds.
    places -= (scores < edges[places]) & (places > 0)
    places += (places < bins - 1) & (scores >= edges[np.minimum(places + 1, bins - 1)])
    hits = places[anomalous]
    shares = np.bincount(hits, weights=region_shares(anomalous), minlength=bins) if regions else np.zeros(bins)
    return np.stack([np.bincount(places[~anomalous], minlength=bins), np.bincount(hits, minlength=bins), shares])


def score_histograms(
    maps: Images, masks: Images, bins: int = 8192, score_range: tuple[float, float] = (0.0, 1.0)
) -> np.ndarray:
    """Histograms of each image. The sum of any of them gives a curve, for example for resampling.

    Args:
        maps: images (H, W) or volumes (X, Y, Z), along the first axis or in a sequence.
        masks: the same shapes, above 0 where anomalous.
        bins: number of bins over ``score_range``. Scores outside count in the outermost bins.
        score_range: lower and upper end of the bins.

    Returns:
        (N, 3, bins) float64: normal pixels, anomalous pixels, and :func:`region_shares` of the anomalous pixels. The
        histograms of an image are NaN, with a warning, if one of its scores is not finite.

    Raises:
        ConfigurationError: shapes do not fit, or there are no bins.

    Example:
        >>> histograms = score_histograms([np.array([[0.1, 0.9]])], [np.array([[0, 1]])], bins=2)
        >>> histograms[0].tolist()
        [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
        >>> histogram_curve(histograms.sum(0)).auroc()
        1.0
    """
    rows = []
    broken: dict[str, int] = {}
    for values, anomalous, bad in image_pairs(maps, masks):
        rows.append(histogram_rows(values, anomalous, bins, score_range, regions=True))
        broken |= bad
    if broken:
        warnings.warn(f"histograms are NaN: {why_undefined(broken)}", stacklevel=2)
    return np.stack(rows) if rows else np.zeros((0, 3, bins))


def histogram_curve(
    histograms: np.ndarray, score_range: tuple[float, float] = (0.0, 1.0), undefined: str = ""
) -> RankingCurve:
    """The curve of histograms (3, bins). The exact values lie within its :meth:`RankingCurve.bounds`.

    Args:
        histograms: (3, bins), from one image of :func:`score_histograms` or the sum of several.
        score_range: first and last edge of the bins.
        undefined: reason why there is no curve, if it is known. Histograms that are NaN are also found here.

    Returns:
        The curve. If the histograms are NaN, its metrics are NaN, with a warning.
    """
    if undefined or np.isnan(histograms).any():
        undefined = undefined or "histograms are of scores that are not finite"
        return RankingCurve.nowhere(undefined, float(histograms[1].sum()), float(histograms[0].sum()))
    normal, found, shares = histograms[:, ::-1]
    edges = bin_edges(found.size, score_range)[::-1]
    passed, overlap = np.cumsum(normal), np.cumsum(shares)
    # Bins without anomalous pixels do not change the curve.
    kept = found > 0
    return RankingCurve(
        thresholds=edges[kept],
        found=np.cumsum(found)[kept],
        passed_before=(passed - normal)[kept],
        passed=passed[kept],
        overlap=overlap[kept],
        positives=float(found.sum()),
        negatives=float(passed[-1]),
        regions=float(np.round(overlap[-1])),
    )

"""Scores in bins, for images that are too many to keep."""

from __future__ import annotations

import warnings

import numpy as np

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics.curves import RankingCurve
from monai_zsad.metrics.values import Images, image_pairs, not_finite, region_shares, why_undefined

__all__ = ["bin_edges", "histogram_curve", "histogram_rows", "score_histograms"]


def bin_edges(bins: int, score_range: tuple[float, float]) -> np.ndarray:
    """Lower edges (bins,) of the bins, rising.

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
    """Histograms (3, bins) of normal and of anomalous pixels, and of the latters' shares of their regions.

    NaN throughout if a score is not finite, so that every sum with them is NaN.

    Args:
        scores: beyond the range they count in the outermost bins.
        anomalous: the same shape, bool.
        bins: number of bins.
        score_range: ends of the range.
        regions: False leaves the last row at 0.
    """
    edges = bin_edges(bins, score_range)
    if not_finite(scores):
        return np.full((3, bins), np.nan)
    low, high = score_range
    places = ((scores.astype(np.float64) - low) * (bins / (high - low))).clip(0, bins - 1).astype(np.intp)
    # Rounding must not separate a score from the edge that becomes its threshold.
    places -= (scores < edges[places]) & (places > 0)
    places += (places < bins - 1) & (scores >= edges[np.minimum(places + 1, bins - 1)])
    hits = places[anomalous]
    shares = np.bincount(hits, weights=region_shares(anomalous), minlength=bins) if regions else np.zeros(bins)
    return np.stack([np.bincount(places[~anomalous], minlength=bins), np.bincount(hits, minlength=bins), shares])


def score_histograms(
    maps: Images, masks: Images, bins: int = 8192, score_range: tuple[float, float] = (0.0, 1.0)
) -> np.ndarray:
    """Histograms of each image. Any sum of them gives a curve: for resampling, or to keep beside a prediction.

    Args:
        maps: images (H, W) or volumes (X, Y, Z), by the first axis or in a sequence.
        masks: the same shapes, above 0 where anomalous.
        bins: number of bins over ``score_range``; scores beyond it count in the outermost bins.
        score_range: see ``bins``.

    Returns:
        (N, 3, bins) float64: normal pixels, anomalous pixels, and the latters' shares of their regions, see
        :func:`region_shares`. Those of an image with scores that are not finite are NaN, with a warning.

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
    """The curve of histograms (3, bins); its :meth:`RankingCurve.bounds` hold the exact values.

    Args:
        histograms: (3, bins), of :func:`score_histograms` or added up.
        score_range: first and last edge of the bins.
        undefined: why there is no curve, if that is known already. Histograms that are NaN are also found here.

    Returns:
        The curve; its metrics are NaN, with a warning, if the histograms are.
    """
    if undefined or np.isnan(histograms).any():
        undefined = undefined or "histograms are of scores that are not finite"
        return RankingCurve.nowhere(undefined, float(histograms[1].sum()), float(histograms[0].sum()))
    normal, found, shares = histograms[:, ::-1]
    edges = bin_edges(found.size, score_range)[::-1]
    passed, overlap = np.cumsum(normal), np.cumsum(shares)
    # Elsewhere the curve is flat.
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

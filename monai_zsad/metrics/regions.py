"""AUPRO: how much of every region of the truth is found, whatever its size."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.integrate import trapezoid

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics.curves import check_limit
from monai_zsad.metrics.ranking import curve_of, parted
from monai_zsad.metrics.values import Images, image_pairs, region_shares, why_undefined

__all__ = ["aupro", "aupro_released"]


def aupro(maps: Images, masks: Images, limit: float = 0.3) -> float:
    """Area under the per-region overlap over the false positive rate, exactly.

    The per-region overlap at a threshold is the fraction of a region of the truth that lies at or above it, averaged
    over all regions of all images. Its area over false positive rates from 0 to ``limit`` is divided by ``limit``.
    Neither MONAI nor scikit-image has it. Here scores are sorted once, an anomalous pixel weighing 1 over the size of
    its region, so every score is a threshold; lines are drawn over equal scores and at ``limit``. Regions are
    connected by corners too, as in the definition's own code and in the releases.

    References:
        Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, section 5.

    Args:
        maps: images (H, W), whose regions are those of the plane, or volumes (X, Y, Z) with regions in space; by the
            first axis or in a sequence, any scale. A single volume stands in a list.
        masks: the same shapes, above 0 where anomalous. Empty ones add to what is normal.
        limit: false positive rate, within (0, 1].

    Returns:
        Within [0, 1]; NaN with a warning where nothing is anomalous, nothing normal, or scores are not finite.

    Raises:
        ConfigurationError: shapes or ``limit`` do not fit.

    Example:
        >>> maps = np.array([[[0.9, 0.8, 0.1, 0.2], [0.7, 0.1, 0.1, 0.1]]])
        >>> masks = np.array([[[1, 0, 0, 1], [0, 0, 0, 0]]])
        >>> round(aupro(maps, masks, limit=1.0), 4)
        0.8333
    """
    check_limit(limit)
    normal, found, shares, undefined = parted(maps, masks, regions=True)
    weights = np.zeros(0) if shares is None else shares
    positives, negatives, regions = float(found.size), float(normal.size), float(np.round(weights.sum()))
    # Scores below the one at which the limit is passed do not count, so they are not sorted.
    least = normal.size - int(limit * normal.size) - 2
    if least > 0:
        cut = np.partition(normal, least)[least]
        normal, kept = normal[normal >= cut], found >= cut
        found, weights = found[kept], weights[kept]
    curve = curve_of(normal, found, weights, undefined)
    return curve._replace(positives=positives, negatives=negatives, regions=regions).aupro(limit)


def aupro_released(maps: Images, masks: Images, limit: float = 0.3, steps: int = 200) -> float:
    """AUPRO as the releases of AnomalyCLIP and Crane compute it, for a comparison with their tables.

    It differs from :func:`aupro` in that thresholds are ``steps`` values evenly over the range of the scores, from the
    least on, what is above counts; the area is taken over those with a false positive rate below ``limit``, and divided
    by the range of their rates rather than by ``limit``. With scores that are crowded in a small part of their range
    few thresholds remain. The releases apply it to each class and give the mean of the classes.

    Args:
        maps: see :func:`aupro`.
        masks: see :func:`aupro`.
        limit: false positive rate, within (0, 1].
        steps: number of thresholds.

    Returns:
        Within [0, 1]; NaN with a warning where nothing is anomalous, nothing normal, scores are not finite, or the
        thresholds have fewer than two different rates below ``limit``.

    Raises:
        ConfigurationError: see :func:`aupro`; or fewer than two steps.

    Example:
        >>> maps = np.linspace(0, 1, 100).reshape(1, 10, 10)
        >>> round(aupro_released(maps, maps > 0.8), 4), round(aupro(maps, maps > 0.8), 4)
        (1.0, 1.0)
    """
    check_limit(limit)
    if steps < 2:
        raise ConfigurationError(f"steps={steps!r}: give at least 2 thresholds")
    pairs = []
    broken: dict[str, int] = {}
    for values, anomalous, bad in image_pairs(maps, masks):
        pairs.append((values, anomalous, region_shares(anomalous)))
        broken |= bad
    if broken:
        warnings.warn(f"AUPRO is NaN: {why_undefined(broken)}", stacklevel=2)
        return float("nan")
    normals = sum(int(np.count_nonzero(~anomalous)) for _, anomalous, _ in pairs)
    regions = sum(float(shares.sum()) for _, _, shares in pairs)
    if not (normals and regions):
        warnings.warn("AUPRO needs normal and anomalous values; it is NaN here", stacklevel=2)
        return float("nan")
    low = min(float(values.min()) for values, _, _ in pairs if values.size)
    high = max(float(values.max()) for values, _, _ in pairs if values.size)
    thresholds = low + (high - low) / steps * np.arange(steps)
    passed, overlap = np.zeros((2, steps + 1))
    for values, anomalous, shares in pairs:
        # Number of thresholds below each value.
        below = np.searchsorted(thresholds, values, side="left")
        passed += np.bincount(below[~anomalous], minlength=steps + 1)
        overlap += np.bincount(below[anomalous], weights=shares, minlength=steps + 1)
    rates = np.cumsum(passed[:0:-1]) / normals
    overlaps = np.cumsum(overlap[:0:-1]) / regions
    kept = rates < limit
    rates, overlaps = rates[kept], overlaps[kept]
    if not rates.size or rates[-1] == rates[0]:
        warnings.warn(
            f"AUPRO of {steps} thresholds has fewer than two false positive rates below {limit}; it is NaN here: use "
            "aupro, or scores that fill their range",
            stacklevel=2,
        )
        return float("nan")
    return float(trapezoid(overlaps, rates) / (rates[-1] - rates[0]))

"""AUPRO: the fraction of each region of the truth that is found. Small and large regions count equally."""

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
    """Area under the per-region overlap as a function of the false positive rate. The value is exact.

    The per-region overlap at a threshold is the fraction of a region of the truth with scores at or above it, averaged
    over all regions of all images. The area for false positive rates from 0 to ``limit`` is divided by ``limit``.
    Neither MONAI nor scikit-image has this metric. Here the scores are sorted once, and each score is a threshold. An
    anomalous pixel has the weight 1 over the size of its region. The curve is interpolated linearly across equal
    scores and at ``limit``. Pixels that touch at a corner are connected, as in the authors' code and in the releases.

    References:
        Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, section 5.

    Args:
        maps: images (H, W) with regions in 2D, or volumes (X, Y, Z) with regions in 3D, along the first axis or in a
            sequence; any scale. Put a single volume into a list.
        masks: the same shapes, above 0 where anomalous. All pixels of an empty mask are normal.
        limit: largest false positive rate, within (0, 1].

    Returns:
        Within [0, 1]. NaN, with a warning, if no pixel is anomalous, no pixel is normal, or a score is not finite.

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
    # Scores with a false positive rate above the limit do not count, so they are not sorted.
    least = normal.size - int(limit * normal.size) - 2
    if least > 0:
        cut = np.partition(normal, least)[least]
        normal, kept = normal[normal >= cut], found >= cut
        found, weights = found[kept], weights[kept]
    curve = curve_of(normal, found, weights, undefined)
    return curve._replace(positives=positives, negatives=negatives, regions=regions).aupro(limit)


def aupro_released(maps: Images, masks: Images, limit: float = 0.3, steps: int = 200) -> float:
    """AUPRO as the releases of AnomalyCLIP and Crane compute it, for a comparison with their tables.

    It differs from :func:`aupro`. The thresholds are ``steps`` evenly spaced values from the least score on, and only
    scores above a threshold count. The area uses the thresholds with a false positive rate below ``limit``. It is
    divided by the range of their rates and not by ``limit``. If most scores lie in a small part of their range, few
    thresholds remain. The releases compute it for each class and report the mean of the classes.

    Args:
        maps: see :func:`aupro`.
        masks: see :func:`aupro`.
        limit: false positive rate, within (0, 1].
        steps: number of thresholds.

    Returns:
        Within [0, 1]. NaN, with a warning, if no pixel is anomalous, no pixel is normal, a score is not finite, or the
        thresholds have fewer than two different rates below ``limit``.

    Raises:
        ConfigurationError: see :func:`aupro`; or there are fewer than two steps.

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

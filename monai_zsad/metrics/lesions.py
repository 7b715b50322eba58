"""FROC: how well anomaly maps find lesions, in one volume or in several volumes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from monai_zsad.errors import ConfigurationError
from monai_zsad.metrics.values import TOUCHING, not_finite, scored, why_undefined

__all__ = ["FROC_RATES", "LesionFroc", "lesion_froc", "pooled_froc"]

FROC_RATES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Sensitivities are averaged over these false positives per volume. CAMELYON16 and MONAI use the same values."""


class LesionFroc(NamedTuple):
    """Found lesions and false candidates at each threshold.

    Attributes:
        thresholds: (T,), from the highest to the lowest.
        sensitivity: (T,), fraction of the lesions that are found; NaN if there are no lesions.
        false_positives: (T,), number of false candidates, mean over the volumes.
        lesions: number of lesions.
        volumes: number of volumes.
        undefined: reason why all values are NaN, for example a map that is not finite; empty otherwise.
    """

    thresholds: np.ndarray
    sensitivity: np.ndarray
    false_positives: np.ndarray
    lesions: int
    volumes: int = 1
    undefined: str = ""

    def at(self, false_positives: float) -> float:
        """Largest sensitivity of all thresholds with at most this number of false candidates per volume.

        It is 0 if no threshold has so few. It is NaN, with a warning, if there are no lesions or a map is not finite.

        Args:
            false_positives: largest number of false candidates per volume.

        Returns:
            Sensitivity in [0, 1].
        """
        if self.undefined or not self.lesions:
            why = "there is no lesion to find: sensitivity is NaN"
            warnings.warn(f"sensitivity is NaN: {self.undefined}" if self.undefined else why, stacklevel=2)
            return float("nan")
        allowed = self.sensitivity[self.false_positives <= false_positives]
        return float(allowed.max()) if allowed.size else 0.0

    def mean_sensitivity(self, rates: Sequence[float] = FROC_RATES) -> float:
        """Mean of :meth:`at` over the ``rates``. This is the usual summary of the curve.

        MONAI's ``compute_froc_score`` interpolates between points. This needs false positives that rise when the
        threshold falls. Here their number can also fall, because regions merge.

        Args:
            rates: numbers of false candidates per volume.

        Returns:
            Sensitivity in [0, 1].
        """
        if self.undefined or not self.lesions:
            return self.at(rates[0])
        return float(np.mean([self.at(rate) for rate in rates]))


def lesion_froc(
    anomaly: np.ndarray,
    truth: np.ndarray,
    body: np.ndarray | None = None,
    *,
    fractions: Sequence[float] | None = None,
    thresholds: Sequence[float] | np.ndarray | None = None,
    min_voxels: int = 10,
    min_overlap: float = 0.1,
    min_lesion: int = 1,
) -> LesionFroc:
    """Free-response curve of one volume. The candidates are connected regions.

    MONAI's FROC functions take points with scores, each a detection. An anomaly map gives regions, and their extent
    changes with the threshold. These rules apply at each threshold. Voxels that touch at a corner are connected.

    - A candidate is a connected region of the body where the map is at least the threshold. It has at least
      ``min_voxels`` voxels.
    - A candidate is right if it overlaps a lesion and at least the fraction ``min_overlap`` of it lies in lesions. All
      other candidates are false positives. Without this rule, one region over the entire body would find all lesions
      without a false positive.
    - A lesion is a connected region of the truth inside the body. It is found if a right candidate overlaps it. A
      lesion with fewer than ``min_lesion`` voxels need not be found, and a candidate over it is not false.

    By default, thresholds are quantiles of the map inside the body, so the curve does not change if the map is
    transformed monotonically. For :func:`pooled_froc`, give the same ``thresholds`` for every volume.

    Args:
        anomaly: anomaly map (X, Y, Z).
        truth: (X, Y, Z), above 0 where there is a lesion.
        body: (X, Y, Z), above 0 where candidates count; None: everywhere.
        fractions: fraction of the body above each threshold; default: 48 values from 1e-5 to 0.2, evenly spaced on a
            logarithmic scale.
        thresholds: thresholds on the map's scale, in any order, in place of ``fractions``.
        min_voxels: see above.
        min_overlap: see above.
        min_lesion: see above.

    Returns:
        The curve. Its sensitivity is NaN, with a warning, if no lesion of that size lies inside the body. If the map
        holds NaN or infinity, even outside the body, then sensitivity, false positives and thresholds from
        ``fractions`` are NaN, with a warning.

    Raises:
        ConfigurationError: shapes differ or do not have three axes, the body is empty, or both ``fractions`` and
            ``thresholds`` are given.

    >>> anomaly, truth = np.zeros((2, 9, 9, 9))
    >>> anomaly[1:4, 1:4, 1:4] = truth[1:4, 1:4, 1:4] = 1
    >>> lesion_froc(anomaly, truth, np.ones((9, 9, 9)), fractions=[0.03]).at(1)
    1.0
    """
    if anomaly.ndim != 3 or anomaly.shape != truth.shape or (body is not None and body.shape != truth.shape):
        shapes = f"{anomaly.shape}, {truth.shape}, {None if body is None else body.shape}"
        raise ConfigurationError(f"map, truth and body have shapes {shapes}: give three alike (X, Y, Z)")
    if fractions is not None and thresholds is not None:
        raise ConfigurationError("fractions and thresholds are both given: give one of them")
    everywhere = np.ones(anomaly.shape, dtype=bool) if body is None else np.asarray(body) > 0
    values, lesion = scored(anomaly, truth)
    undefined = why_undefined({"": not_finite(values)})
    box = next(iter(ndimage.find_objects(everywhere.astype(np.uint8))), None)
    if box is None:
        raise ConfigurationError("body is empty: nothing counts; give a mask above 0 where candidates count")
    values, inside = values[box], everywhere[box]
    labels, count = ndimage.label(lesion[box] & inside, TOUCHING[3])
    wanted = np.bincount(labels.ravel(), minlength=count + 1) >= min_lesion
    wanted[0] = False
    lesions = int(wanted.sum())
    if thresholds is None:
        chosen = np.geomspace(1e-5, 0.2, 48) if fractions is None else np.asarray(fractions, dtype=np.float64)
        own = values[inside]
        thresholds = [np.nan] if undefined else np.quantile(own, 1 - chosen, method="higher")
    falling = np.unique(np.asarray(thresholds))[::-1]
    if undefined:
        warnings.warn(f"sensitivity is NaN: {undefined}", stacklevel=2)
        lacking = np.full(falling.shape, np.nan)
        return LesionFroc(falling, lacking, lacking, lesions, undefined=undefined)
    counts = [_count(values >= t, inside, labels, wanted, min_voxels, min_overlap) for t in falling]
    found, false = np.array(counts, dtype=np.float64).T
    if not lesions:
        warnings.warn(
            f"no lesion of {min_lesion} voxels or more lies inside the body: sensitivity is NaN", stacklevel=2
        )
    return LesionFroc(falling, found / lesions if lesions else np.full(found.shape, np.nan), false, lesions)


def pooled_froc(curves: Sequence[LesionFroc]) -> LesionFroc:
    """One curve of several volumes: sensitivity of all their lesions, and mean false candidates per volume.

    Volumes without lesions contribute their false candidates. Make all curves with the same ``thresholds`` of
    :func:`lesion_froc`. With more thresholds, the value of :meth:`LesionFroc.at` can only rise.

    Args:
        curves: curves of the volumes, or of groups of volumes.

    Returns:
        The curve, with the same thresholds. If the map of a volume is not finite, the curve is NaN, and its methods
        give a warning.

    Raises:
        ConfigurationError: there are no curves, or their thresholds differ.

    Example:
        >>> anomaly, truth = np.zeros((2, 9, 9, 9))
        >>> anomaly[1:4, 1:4, 1:4] = truth[1:4, 1:4, 1:4] = 1
        >>> curves = [lesion_froc(one, truth, thresholds=[0.5]) for one in (anomaly, 0 * anomaly)]
        >>> pooled_froc(curves).at(1)
        0.5
    """
    if not curves or any(not np.array_equal(curve.thresholds, curves[0].thresholds) for curve in curves):
        raise ConfigurationError(f"{len(curves)} curves: give at least one, and make all with the same thresholds")
    lesions = sum(curve.lesions for curve in curves)
    volumes = sum(curve.volumes for curve in curves)
    undefined = "; ".join(f"index {n}: {curve.undefined}" for n, curve in enumerate(curves) if curve.undefined)
    if undefined:
        lacking = np.full(curves[0].thresholds.shape, np.nan)
        return LesionFroc(curves[0].thresholds, lacking, lacking, lesions, volumes, undefined)
    found = sum(curve.sensitivity * curve.lesions for curve in curves if curve.lesions)
    false = np.sum([curve.false_positives * curve.volumes for curve in curves], axis=0)
    sensitivity = np.asarray(found) / lesions if lesions else np.full(false.shape, np.nan)
    return LesionFroc(curves[0].thresholds, sensitivity, false / volumes, lesions, volumes)


def _count(
    above: np.ndarray, inside: np.ndarray, labels: np.ndarray, wanted: np.ndarray, min_voxels: int, min_overlap: float
) -> tuple[int, int]:
    """Number of found lesions among those that must be found, and number of false candidates."""
    candidates, count = ndimage.label(above & inside, TOUCHING[3])
    sizes = np.bincount(candidates.ravel(), minlength=count + 1)
    lesion = labels > 0
    overlaps = np.bincount(candidates[lesion], minlength=count + 1)
    large = sizes >= min_voxels
    right = large & (overlaps > 0) & (overlaps >= min_overlap * sizes)
    large[0] = right[0] = False
    hit = np.unique(labels[lesion & right[candidates]])
    return int(wanted[hit].sum()), int((large & ~right).sum())

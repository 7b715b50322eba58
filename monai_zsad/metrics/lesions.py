"""How well an anomaly map of one volume finds lesions: voxels, slices, and lesions as wholes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from monai_zsad.errors import ConfigurationError

__all__ = ["LesionFroc", "VoxelRanking", "lesion_froc", "rank_voxels", "slice_scores"]

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


class VoxelRanking(NamedTuple):
    """How scores rank anomalous above normal ones.

    Attributes:
        auroc: chance that an anomalous one scores above a normal one; equal ones count half.
        average_precision: mean precision over the anomalous ones; equal scores are told apart by nothing.
        best_dice: largest Dice of the mask that a threshold gives.
        best_threshold: that threshold; the mask is what is at least as large.
    """

    auroc: float
    average_precision: float
    best_dice: float
    best_threshold: float


class LesionFroc(NamedTuple):
    """Lesions found against false candidates, as thresholds fall.

    Attributes:
        thresholds: (T,), from the highest down.
        sensitivity: (T,), fraction of the lesions that are found.
        false_positives: (T,), number of candidates in the volume that are none.
        lesions: number of lesions.
    """

    thresholds: np.ndarray
    sensitivity: np.ndarray
    false_positives: np.ndarray
    lesions: int

    def at(self, false_positives: float) -> float:
        """Largest sensitivity of a threshold with at most so many false candidates; 0 if there is none."""
        allowed = self.sensitivity[self.false_positives <= false_positives]
        return float(allowed.max()) if allowed.size else 0.0


def rank_voxels(scores: np.ndarray, truth: np.ndarray) -> VoxelRanking:
    """AUROC, average precision and best Dice of scores, exactly.

    MONAI's ``compute_roc_auc`` and ``compute_average_precision`` walk over all values in Python, which takes minutes
    for a volume, and count equal scores in the order that they come in. :class:`PixelRankingMetric` is for many images
    with scores in [0, 1].

    Args:
        scores: any shape, finite, any scale.
        truth: the same shape, above 0 where anomalous.

    Returns:
        The figures; NaN where there is nothing anomalous or nothing normal.

    Raises:
        ConfigurationError: shapes differ, or scores are not finite.

    >>> rank_voxels(np.array([0.9, 0.4, 0.6, 0.1]), np.array([1, 1, 0, 0]))
    VoxelRanking(auroc=0.75, average_precision=0.8333333333333333, best_dice=0.8, best_threshold=0.4)
    """
    values, anomalous = np.asarray(scores).ravel(), np.asarray(truth).ravel() > 0
    if np.shape(scores) != np.shape(truth) or not np.isfinite(values).all():
        raise ConfigurationError(
            f"scores of shape {np.shape(scores)} and truth of shape {np.shape(truth)}: give finite scores and as many "
            "truths"
        )
    order = np.argsort(values)[::-1]
    ranked = values[order]
    # The last of each run of equal scores.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if ranked.size else np.zeros(0, dtype=int)
    hits = np.cumsum(anomalous[order], dtype=np.int64)[last]
    taken = last + 1
    positives = int(anomalous.sum())
    negatives = len(values) - positives
    if not (positives and negatives):
        return VoxelRanking(*[float("nan")] * 4)
    new_hits = np.diff(hits, prepend=0)
    new_misses = np.diff(taken - hits, prepend=0)
    auroc = float((new_misses * (hits - new_hits / 2)).sum() / (positives * negatives))
    precision = float((new_hits * (hits / taken)).sum() / positives)
    dice = 2 * hits / (taken + positives)
    best = int(dice.argmax())
    return VoxelRanking(auroc, precision, float(dice[best]), float(ranked[last[best]]))


def slice_scores(
    anomaly: np.ndarray, body: np.ndarray, quantile: float = 1.0, min_fraction: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """A score for each slice along the last axis: a quantile of its map inside the body.

    Args:
        anomaly: (X, Y, Z).
        body: (X, Y, Z), above 0 where the map counts.
        quantile: within [0, 1]; 1 is the maximum.
        min_fraction: slices with less body than this fraction of their area are left out; none without body counts.

    Returns:
        Indices of the slices (N,) and their scores (N,).

    >>> slice_scores(np.arange(8.0).reshape(2, 2, 2), np.ones((2, 2, 2)))
    (array([0, 1]), array([6., 7.]))
    """
    inside = np.asarray(body) > 0
    area = inside.shape[0] * inside.shape[1]
    covered = inside.sum((0, 1))
    indices = np.flatnonzero((covered > 0) & (covered >= min_fraction * area))
    scores = [float(np.quantile(anomaly[..., k][inside[..., k]], quantile)) for k in indices]
    return indices, np.array(scores)


def lesion_froc(
    anomaly: np.ndarray,
    truth: np.ndarray,
    body: np.ndarray,
    *,
    fractions: Sequence[float] | None = None,
    min_voxels: int = 10,
    min_overlap: float = 0.1,
    min_lesion: int = 1,
) -> LesionFroc:
    """Free-response curve of one volume, with connected regions as candidates.

    MONAI's FROC functions take points with scores, each a detection; an anomaly map has regions, whose extent changes
    with the threshold. Here, at each of a series of thresholds:

    - candidates are the connected regions (by corners too) of the body where the map is at least the threshold, of at
      least ``min_voxels``;
    - a candidate is right if it overlaps a lesion and at least ``min_overlap`` of it lies in lesions. Without this one
      region over the whole body would find all lesions with no false positive. Every other candidate is one;
    - a lesion is a connected region (by corners too) of the truth inside the body; it is found if a right candidate
      overlaps it. Those of fewer than ``min_lesion`` voxels need not be found, nor is a candidate over them false.

    Thresholds are quantiles of the map inside the body, so that any monotone change of the map changes nothing.

    Args:
        anomaly: (X, Y, Z), finite.
        truth: (X, Y, Z), above 0 where there is a lesion.
        body: (X, Y, Z), above 0 where candidates count.
        fractions: of the body that lies above each threshold; default: 48 from 1e-5 to 0.2, evenly on a logarithmic
            scale.
        min_voxels: see above.
        min_overlap: see above.
        min_lesion: see above.

    Raises:
        ConfigurationError: shapes differ or have not three axes, or no lesion of that size lies inside the body.

    >>> anomaly, truth = np.zeros((2, 9, 9, 9))
    >>> anomaly[1:4, 1:4, 1:4] = truth[1:4, 1:4, 1:4] = 1
    >>> lesion_froc(anomaly, truth, np.ones((9, 9, 9)), fractions=[0.03]).at(1)
    1.0
    """
    if anomaly.ndim != 3 or not (anomaly.shape == truth.shape == body.shape):
        raise ConfigurationError(
            f"map, truth and body have shapes {anomaly.shape}, {truth.shape}, {body.shape}: give three alike (X, Y, Z)"
        )
    everywhere = np.asarray(body) > 0
    box = next(iter(ndimage.find_objects(everywhere.astype(np.uint8))), (slice(0),) * 3)
    values, inside = np.asarray(anomaly)[box], everywhere[box]
    labels, count = ndimage.label((np.asarray(truth)[box] > 0) & inside, _TOUCHING)
    wanted = np.bincount(labels.ravel(), minlength=count + 1) >= min_lesion
    wanted[0] = False
    if not wanted.any():
        raise ConfigurationError(
            f"no lesion of {min_lesion} voxels or more lies inside the body: nothing is to be found"
        )
    chosen = np.geomspace(1e-5, 0.2, 48) if fractions is None else np.asarray(fractions, dtype=np.float64)
    thresholds = np.unique(np.quantile(values[inside], 1 - chosen, method="higher"))[::-1]
    found = [_count(values >= t, inside, labels, wanted, min_voxels, min_overlap) for t in thresholds]
    sensitivity, false = np.array(found, dtype=np.float64).T
    return LesionFroc(thresholds, sensitivity, false, int(wanted.sum()))


def _count(
    above: np.ndarray, inside: np.ndarray, labels: np.ndarray, wanted: np.ndarray, min_voxels: int, min_overlap: float
) -> tuple[float, int]:
    """Fraction of the wanted lesions that are found, and number of false candidates."""
    candidates, count = ndimage.label(above & inside, _TOUCHING)
    sizes = np.bincount(candidates.ravel(), minlength=count + 1)
    lesion = labels > 0
    overlaps = np.bincount(candidates[lesion], minlength=count + 1)
    large = sizes >= min_voxels
    right = large & (overlaps > 0) & (overlaps >= min_overlap * sizes)
    large[0] = right[0] = False
    hit = np.unique(labels[lesion & right[candidates]])
    return float(wanted[hit].sum() / wanted.sum()), int((large & ~right).sum())

"""Baselines, and figures of maps against lesions: the same for volumes and for single slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from monai_zsad.metrics import LesionFroc, lesion_froc, pooled_froc, ranking_curve, slice_scores
from monai_zsad.transforms import BodyMask

RATES = (1, 4, 8)
# What a calibrated map means by "abnormal".
THRESHOLD = 0.5
# Fractions of the body above the thresholds of FROC.
FRACTIONS = np.geomspace(1e-5, 0.2, 48)
# Of a map without a score of its own, a slice's score is this quantile within the body: a single bright voxel of skull
# or vessel does not decide it.
SLICE_QUANTILE = 0.995
Row = dict[str, Any]


class Case(NamedTuple):
    """A volume, or a slice as a volume of one.

    Attributes:
        image: (X, Y, Z).
        truth: bool, lesions.
        body: bool, what baselines see, and where candidates lie.
        scored: bool, voxels of the body that count. Candidates lie in the others, too: otherwise a map that is high
            everywhere would have a candidate just as large as the lesion.
    """

    image: np.ndarray
    truth: np.ndarray
    body: np.ndarray
    scored: np.ndarray


def head_case(image: np.ndarray, truth: np.ndarray, ring: int) -> Case:
    """A case of a whole head. Within slices, ``ring`` pixels around lesions do not count: oedema is not outlined."""
    from skimage.filters import threshold_otsu

    # Otsu's threshold itself leaves out dark tissue where the scalp is bright.
    body = np.asarray(BodyMask(float(threshold_otsu(image)) / 2)(image[None])).astype(bool)[0]
    near = np.stack([_near(truth[..., k], ring) for k in range(truth.shape[2])], axis=-1)
    return Case(image, truth & body, body, body & (truth | ~near))


def _near(truth: np.ndarray, pixels: int) -> np.ndarray:
    return ndimage.distance_transform_edt(~truth) <= pixels if truth.any() else truth


def scaled_intensity(image: np.ndarray, body: np.ndarray) -> np.ndarray:
    """First baseline: robust standard deviations above the body's median."""
    median = np.median(image[body])
    return (image - median) / (1.4826 * np.median(np.abs(image[body] - median)))


def equalised_z_score(image: np.ndarray, body: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    """Second baseline: histogram equalised within the body, smoothed there (sigma in voxels), standardised."""
    from skimage.exposure import equalize_hist

    equalised = equalize_hist(image, nbins=1024, mask=body) * body
    weight = ndimage.gaussian_filter(body.astype(np.float32), sigma)
    smooth = ndimage.gaussian_filter(equalised, sigma) / np.maximum(weight, 1e-3)
    return (smooth - smooth[body].mean()) / smooth[body].std()


BASELINES = {"intensity": scaled_intensity, "z-score": equalised_z_score}


def figures(cases: Sequence[Case], maps: Sequence[np.ndarray], *, min_lesion: int = 1, calibrated: bool = False) -> Row:
    """Figures of the maps (X, Y, Z) of all cases together.

    Args:
        cases: what the maps are of.
        maps: one per case.
        min_lesion: lesions of fewer voxels need not be found.
        calibrated: whether :data:`THRESHOLD` means something on the map.

    Returns:
        AP and best Dice of voxels that count; for candidates in the body, sensitivity for lesions at 1, 4 and 8 false
        positives per case, and of calibrated maps sensitivity and false positives per case at the threshold.

    >>> truth = np.zeros((9, 9, 1), dtype=bool)
    >>> truth[2:6, 2:6] = True
    >>> everywhere = np.ones_like(truth)
    >>> found = figures([Case(truth, truth, everywhere, everywhere)], [truth * 0.9], calibrated=True)
    >>> found["AP"], found["sensitivity at 1 FP"], found["sensitivity at 0.5"], found["FP at 0.5"]
    (1.0, 1.0, 1.0, 0.0)
    """
    values = np.concatenate([anomaly[case.scored] for case, anomaly in zip(cases, maps, strict=True)])
    curve = ranking_curve(values, np.concatenate([case.truth[case.scored] for case in cases]))

    def froc(thresholds: np.ndarray) -> LesionFroc:
        return pooled_froc(
            [
                lesion_froc(anomaly, case.truth, case.body, thresholds=thresholds, min_lesion=min_lesion)
                for case, anomaly in zip(cases, maps, strict=True)
            ]
        )

    inside = np.concatenate([anomaly[case.body] for case, anomaly in zip(cases, maps, strict=True)])
    found = froc(np.unique(np.quantile(inside, 1 - FRACTIONS, method="higher")))
    row: Row = {"AP": curve.average_precision(), "best Dice": curve.f1_max().value, "lesions": found.lesions}
    row |= {f"sensitivity at {rate} FP": found.at(rate) for rate in RATES}
    if calibrated:
        there = froc(np.array([THRESHOLD]))
        row |= {"sensitivity at 0.5": float(there.sensitivity[0]), "FP at 0.5": float(there.false_positives[0])}
    return row


def scores_of(anomaly: np.ndarray, body: np.ndarray, min_fraction: float = 0.0) -> dict[int, float]:
    """Score of each slice (X, Y) of a map that has no score of its own."""
    return dict(zip(*slice_scores(anomaly, body, SLICE_QUANTILE, min_fraction), strict=True))


def highest_in_lesion(cases: Sequence[Case], maps: Sequence[np.ndarray]) -> float:
    """Fraction of the cases whose highest voxel lies in a lesion."""
    highest = (np.argmax(np.where(case.scored, one, -np.inf)) for case, one in zip(cases, maps, strict=True))
    return float(np.mean([case.truth.flat[place] for case, place in zip(cases, highest, strict=True)]))


def fraction(values: Mapping[int, bool] | np.ndarray) -> float | None:
    """Mean of flags; None if there are none."""
    flags = list(values.values()) if isinstance(values, Mapping) else list(values)
    return float(np.mean(flags)) if flags else None


def has_candidate(anomaly: np.ndarray, min_pixels: float) -> bool:
    """Whether a slice (X, Y) has a connected area above the threshold of at least so many pixels."""
    regions, count = ndimage.label(anomaly > THRESHOLD, np.ones((3, 3)))
    return bool(count) and int(np.bincount(regions.ravel())[1:].max()) >= min_pixels

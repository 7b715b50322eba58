"""Outlines of bright lesions on FLAIR, for training scans that nobody has outlined."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

from monai_zsad.errors import InputError

__all__ = ["DOUBT", "LESION", "OutlineLesionsd", "outline_bright_lesions"]

LESION, DOUBT = 1, 2
"""Labels of lesions, and of voxels that may or may not belong to one."""

_SURE = ((0.5, 1.8), (0.15, 3.0), (0.3, 2.3))
_PART = ((0.12, 1.7), (0.5, 1.3))
_BESIDE, _BRIGHT, _MAYBE, _SPOT = 2.0, 2.0, 0.15, 3.0
_LEAST_VOXELS = 3
_DEEP_MM, _FINE_MM, _COARSE_MM = 14.0, 1.0, 6.0


def outline_bright_lesions(scan: np.ndarray, anomaly: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Outline what an earlier model marks and what is also bright: pseudo-labels, no ground truth.

    A region is a lesion if one of its voxels is sure. Sure voxels have a high value in the map of the model, and are
    brighter than the median of the deep tissue by several robust standard deviations; the higher the one, the lower the
    other may be. Other bright voxels, small bright spots, other voxels that the model marks, and the margins of lesions
    are doubtful.

    Args:
        scan: (X, Y, Z), a FLAIR scan of a head; slices (X, Y) are looked at one by one, as they are thick.
        anomaly: (X, Y, Z), map of an earlier model in [0, 1].
        spacing: mm between voxels along X, Y, Z.

    Returns:
        (X, Y, Z), uint8: 0, :data:`LESION` or :data:`DOUBT`.

    Raises:
        InputError: no head is found, or the shapes differ.

    References:
        Lee, "Pseudo-Label", ICML Workshops 2013.

    >>> scan = np.zeros((48, 48, 12))
    >>> scan[4:44, 4:44, 1:11] = 100 + 10 * np.random.default_rng(0).normal(size=(40, 40, 10))
    >>> scan[22:26, 22:26, 5:7] += 150
    >>> labels = outline_bright_lesions(scan, (scan > 180).astype(float), (1, 1, 4))
    >>> bool((labels[22:26, 22:26, 5:7] == LESION).all()), bool((labels[:15] == LESION).any())
    (True, False)
    """
    if scan.shape != anomaly.shape:
        raise InputError(f"scan {scan.shape} and map {anomaly.shape} differ in shape: give the map of this scan")
    scan = np.asarray(scan, np.float32)
    deep = ndimage.distance_transform_edt(np.pad(_head(scan), 1), sampling=spacing)[1:-1, 1:-1, 1:-1] > _DEEP_MM
    if not deep.any():
        raise InputError("no tissue lies deep enough in the scan: give a scan of a complete head")
    tissue = scan[deep]
    tissue = tissue[tissue > np.percentile(tissue, 10)]  # without fluid
    brightness = (ndimage.gaussian_filter(scan, (0.7, 0.7, 0)) - np.median(tissue)) / _deviation(tissue)

    def both(pairs: Sequence[tuple[float, float]]) -> np.ndarray:
        return np.logical_or.reduce([(anomaly > least) & (brightness > bright) for least, bright in pairs])

    sure = both(_SURE)
    possible = (
        sure | both(_PART) | (ndimage.binary_dilation(sure, np.ones((3, 3, 3)), iterations=2) & (brightness > _BESIDE))
    )
    in_slice = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))], -1)
    regions, _ = ndimage.label(possible, in_slice)
    sizes = np.bincount(regions.ravel())
    kept = [number for number in np.unique(regions[sure]) if number and sizes[number] >= _LEAST_VOXELS]
    lesion = np.isin(regions, kept) & ndimage.binary_dilation(deep, iterations=6)

    def grown(mask: np.ndarray, times: int) -> np.ndarray:
        return ndimage.binary_dilation(mask, np.ones((3, 3, 1)), iterations=times)

    fine, coarse = (
        ndimage.gaussian_filter(scan, (sigma / spacing[0], sigma / spacing[1], 0)) for sigma in (_FINE_MM, _COARSE_MM)
    )
    detail = fine - coarse
    spots = deep & (detail > np.median(detail[deep]) + _SPOT * _deviation(detail[deep]))
    doubt = grown(lesion, 2) | (anomaly > _MAYBE) | (deep & (brightness > _BRIGHT)) | grown(spots, 1)
    return np.where(lesion, LESION, np.where(doubt, DOUBT, 0)).astype(np.uint8)


class OutlineLesionsd(MapTransform):
    """Dictionary form of :func:`outline_bright_lesions`: replaces the map of each scan that has one by its outlines.

    Args:
        keys: key of the scan (1, X, Y, Z), a MetaTensor.
        map_key: key of the map; may be missing.
        outline_key: key of the outlines (1, X, Y, Z) that are added.
    """

    def __init__(self, keys: str, map_key: str = "anomaly", outline_key: str = "outlines") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.map_key, self.outline_key = map_key, outline_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the outlines."""
        found = dict(data)
        for key in self.key_iterator(found) if self.map_key in found else ():
            scan, anomaly = found[key], found.pop(self.map_key)
            labels = outline_bright_lesions(np.asarray(scan[0]), np.asarray(anomaly[0]), scan.pixdim.tolist())
            found[self.outline_key] = MetaTensor(torch.from_numpy(labels[None]).float()).copy_meta_from(scan)
        return found


def _head(scan: np.ndarray) -> np.ndarray:
    """The largest connected bright region, filled slice by slice."""
    bright = ndimage.binary_fill_holes(ndimage.binary_opening(scan > 0.08 * np.percentile(scan, 99.8), iterations=2))
    regions, count = ndimage.label(bright)
    if not count:
        return bright
    head = regions == 1 + int(np.argmax(np.bincount(regions.ravel())[1:]))
    return np.stack([ndimage.binary_fill_holes(one) for one in np.moveaxis(head, 2, 0)], axis=2)


def _deviation(values: np.ndarray) -> float:
    """Robust standard deviation."""
    return max(1.4826 * float(np.median(np.abs(values - np.median(values)))), 1e-6)

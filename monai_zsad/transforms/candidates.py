"""Lesion candidates of an anomaly map: position, size and score."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from scipy import ndimage

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.transforms._volume import SPACING_TOLERANCE, as_volume, box_of, describe, ras_affine, require_finite
from monai_zsad.transforms.lesion_candidate import LesionCandidate, measured, rank, voxel_volume

__all__ = [
    "LesionCandidates",
    "LesionCandidatesD",
    "LesionCandidatesDict",
    "LesionCandidatesd",
]

_METHODS = ("fixed", "quantile")
_MOST = np.iinfo(np.uint16).max


class LesionCandidates(Transform):
    """Find lesion candidates in an anomaly map: threshold, connected components, measurements in the scan's space.

    MONAI's ``KeepLargestConnectedComponent`` and ``RemoveSmallObjects`` clean a mask but do not measure it, and
    ``ProbNMS`` lists peaks without their extent. SciPy finds the components; scikit-image gives regions and meshes.

    Voxels above the threshold belong to one candidate if they touch, even at a corner. Candidates are sorted by peak
    score, then mean score, then volume (largest first), then by the position of the peak in mm. If the array is flipped
    or permuted together with its affine, the order and all positions in mm stay the same.

    Args:
        threshold: each candidate has at least one value above it. It is a value of the map or a quantile, see
            ``method``.
        method: ``"fixed"``, or ``"quantile"``: thresholds are quantiles of the map inside the body. Without a body
            mask, they are quantiles of all values other than 0, because skipped slices and padding are 0.
        low: lower threshold of the same kind (hysteresis): a candidate includes all connected voxels above it.
        min_volume_mm3: smaller candidates are dropped.
        border_mm: width in mm, along each axis, of a border that is left out: at the faces of the volume and at the
            surface of the body. Maps are often wrong there.
        max_candidates: largest number of candidates; the most suspicious ones are kept. ``None`` keeps all.

    Raises:
        ConfigurationError: an unknown method, or a value out of range.

    Example:
        >>> anomaly = MetaTensor(torch.zeros(1, 20, 20, 10), affine=torch.diag(torch.tensor([1.0, 1.0, 3.0, 1.0])))
        >>> anomaly[:, 2:6, 2:6, 2:4] = 0.7
        >>> anomaly[:, 10:14, 10:13, 5:7] = 0.9
        >>> labels, candidates = LesionCandidates(threshold=0.5)(anomaly)
        >>> [(found.id, found.volume_mm3, found.centroid_ras_mm) for found in candidates]
        [(1, 72.0, (11.5, 11.0, 16.5)), (2, 96.0, (3.5, 3.5, 7.5))]
        >>> labels.dtype, int(labels[0, 10, 10, 5]), candidates[0].slice_range
        (torch.uint8, 1, (5, 6))
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012 - as MONAI declares it

    def __init__(
        self,
        threshold: float = 0.5,
        method: str = "fixed",
        low: float | None = None,
        min_volume_mm3: float = 10.0,
        border_mm: float = 0.0,
        max_candidates: int | None = None,
    ) -> None:
        if method not in _METHODS:
            raise ConfigurationError(f"method={method!r}: accepted are {' and '.join(map(repr, _METHODS))}.")
        for name, value in {"threshold": threshold, "low": threshold if low is None else low}.items():
            if not np.isfinite(value) or (method == "quantile" and not 0 <= value <= 1):
                raise ConfigurationError(f"{name}={value!r} must be a finite number, as a quantile within [0, 1].")
        if low is not None and low > threshold:
            raise ConfigurationError(f"low={low!r} must not be above threshold={threshold!r}.")
        for name, value in {"min_volume_mm3": min_volume_mm3, "border_mm": border_mm}.items():
            if not (np.isfinite(value) and value >= 0):
                raise ConfigurationError(f"{name}={value!r} must be a finite number, 0 or larger.")
        is_count = isinstance(max_candidates, int) and not isinstance(max_candidates, bool) and max_candidates >= 1
        if max_candidates is not None and not is_count:
            raise ConfigurationError(f"max_candidates={max_candidates!r} must be a whole number from 1, or None.")
        self.threshold = threshold
        self.method = method
        self.low = low
        self.min_volume_mm3 = min_volume_mm3
        self.border_mm = border_mm
        self.max_candidates = max_candidates

    def __call__(
        self, img: NdarrayOrTensor, body: NdarrayOrTensor | None = None
    ) -> tuple[MetaTensor, list[LesionCandidate]]:
        """Find the candidates.

        Args:
            img: (C, X, Y, Z), channel 0 the anomaly map.
            body: (1, X, Y, Z), above 0 where candidates may lie, as :class:`BodyMask` returns it; ``None``: everywhere.

        Returns:
            The label map (1, X, Y, Z), uint8, or uint16 for more than 255 candidates, with the metadata of ``img``; and
            the candidates, most suspicious first.

        Raises:
            InputError: NaN or infinite values, not four axes, an unusable affine, a body on another grid, or more
                candidates than a label map can hold.
        """
        volume = as_volume(img)
        require_finite(volume)
        affine = ras_affine(volume)
        values = volume[0].detach().cpu().float().numpy()
        inside = self._inside(volume, body, affine)
        low, high = self._thresholds(values, inside)
        mask = values > low
        if inside is not None:
            mask &= inside
        shape = values.shape
        box = box_of(mask)
        regions, found = self._regions(mask[box], values[box], box, affine, high)
        order = sorted(range(len(found)), key=lambda index: rank(found[index]))[: self.max_candidates]
        dtype = np.uint8 if len(order) <= np.iinfo(np.uint8).max else np.uint16
        ids = np.zeros(len(found) + 1, dtype=dtype)
        ids[[index + 1 for index in order]] = np.arange(1, len(order) + 1)
        labels = np.zeros((1, *shape), dtype=dtype)
        labels[0][box] = ids[regions]
        candidates = [replace(found[index], id=number) for number, index in enumerate(order, 1)]
        out = torch.from_numpy(labels).to(volume.device)
        return (MetaTensor(out).copy_meta_from(volume) if isinstance(volume, MetaTensor) else out), candidates

    def _inside(self, volume: torch.Tensor, body: NdarrayOrTensor | None, affine: np.ndarray) -> np.ndarray | None:
        """Where candidates may lie; None for everywhere."""
        if body is None and self.border_mm == 0:
            return None
        if body is None:
            inside = np.ones(volume.shape[1:], dtype=bool)
        else:
            mask = as_volume(body)
            if mask.shape != (1, *volume.shape[1:]):
                raise InputError(
                    f"the body has the shape {tuple(mask.shape)}, {describe(volume)} {tuple(volume.shape)}: a mask of "
                    "one channel on the same grid is needed."
                )
            # A comparison of bool with a number uses 64-bit integers, which need 2 GiB for a large CT.
            inside = (mask[0] if mask.dtype is torch.bool else mask[0] > 0).cpu().numpy()
        for axis, size in enumerate(affine_to_spacing(affine, 3)):
            if radius := int(self.border_mm / size + SPACING_TOLERANCE):
                inside = ndimage.minimum_filter1d(inside, 2 * radius + 1, axis, mode="constant", cval=0)
        return inside

    def _thresholds(self, values: np.ndarray, inside: np.ndarray | None) -> tuple[float, float]:
        low = self.threshold if self.low is None else self.low
        if self.method == "quantile":
            known = values[values != 0 if inside is None else inside]
            low, high = np.quantile(known, (low, self.threshold)) if known.size else (np.inf, np.inf)
            return float(low), float(high)
        return low, self.threshold

    def _regions(
        self, mask: np.ndarray, values: np.ndarray, box: tuple[slice, ...], affine: np.ndarray, high: float
    ) -> tuple[np.ndarray, list[LesionCandidate]]:
        """Label map of the box, and the candidates in the order of its labels, without their ids."""
        from skimage.measure import regionprops

        labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
        sizes = np.bincount(labels[mask], minlength=count + 1)
        peaks = np.full(count + 1, -np.inf, dtype=np.float32)
        np.maximum.at(peaks, labels[mask], values[mask])
        # Despite rounding errors, ten voxels of 0.9999999 mm3 must count as 10 mm3.
        keep = (peaks > high) & (sizes * voxel_volume(affine) >= self.min_volume_mm3 * (1 - SPACING_TOLERANCE))
        keep[0] = False
        if self.max_candidates is not None and keep.sum() > self.max_candidates:
            # Candidates with equal peaks are ordered after the measurement.
            keep &= peaks >= np.sort(peaks[keep])[-self.max_candidates]
        if keep.sum() > _MOST:
            raise InputError(
                f"{keep.sum()} candidates, but a label map holds {_MOST}: raise threshold={self.threshold} or "
                f"min_volume_mm3={self.min_volume_mm3}, or set max_candidates."
            )
        labels = np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]
        start = np.array([part.start for part in box])
        return labels, [measured(region, values, start, affine) for region in regionprops(labels, cache=False)]


class LesionCandidatesd(MapTransform):
    """Dictionary form of :class:`LesionCandidates`.

    For the map ``"pred"``, the candidates go to ``"pred_candidates"``, the label map to ``"pred_labels"``.

    Args:
        keys: keys of the anomaly maps.
        threshold: see :class:`LesionCandidates`.
        method: see :class:`LesionCandidates`.
        low: see :class:`LesionCandidates`.
        min_volume_mm3: see :class:`LesionCandidates`.
        border_mm: see :class:`LesionCandidates`.
        max_candidates: see :class:`LesionCandidates`.
        body_key: key of the body mask, as :class:`BodyMaskd` adds it; ``None`` for no mask.
        allow_missing_keys: do not raise an error if a key is missing.

    Example:
        >>> anomaly = torch.zeros(1, 8, 8, 8)
        >>> anomaly[:, 2:6, 2:6, 2:6] = 1
        >>> data = LesionCandidatesd("pred")({"pred": anomaly})
        >>> data["pred_labels"].shape, data["pred_candidates"][0].peak_score
        (torch.Size([1, 8, 8, 8]), 1.0)
    """

    backend = LesionCandidates.backend

    def __init__(
        self,
        keys: KeysCollection = "pred",
        threshold: float = 0.5,
        method: str = "fixed",
        low: float | None = None,
        min_volume_mm3: float = 10.0,
        border_mm: float = 0.0,
        max_candidates: int | None = None,
        body_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.finder = LesionCandidates(threshold, method, low, min_volume_mm3, border_mm, max_candidates)
        self.body_key = body_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add candidates and label map of every key.

        Raises:
            InputError: the body mask is missing, or :class:`LesionCandidates` refuses the map.
        """
        d = dict(data)
        if self.body_key is not None and self.body_key not in d:
            raise InputError(f"body_key={self.body_key!r} is not among the data ({', '.join(map(str, d))}).")
        for key in self.key_iterator(d):
            body = None if self.body_key is None else d[self.body_key]
            d[f"{key}_labels"], d[f"{key}_candidates"] = self.finder(d[key], body)
        return d


LesionCandidatesD = LesionCandidatesDict = LesionCandidatesd

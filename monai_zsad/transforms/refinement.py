"""Guided filter: an anomaly map that follows the edges of its scan."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from monai_zsad.transforms._volume import all_finite, as_volume, describe, ras_affine, require_finite

__all__ = ["GuidedRefinement", "GuidedRefinementD", "GuidedRefinementDict", "GuidedRefinementd"]

_SLAB_VOXELS = 4_000_000
_MOST_WORKERS = 2
_RANGE_TOLERANCE = 1e-3


def _is_radius(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _window_counts(weights: np.ndarray, radius: int) -> np.ndarray:
    """Sum of the weights in the window around each position; beyond the ends, the weights are 0."""
    return ndimage.convolve1d(weights, np.ones(2 * radius + 1, dtype=np.float32), mode="constant")


def _box_mean(values: np.ndarray, radii: Sequence[int], weights: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the box around each voxel, in place. Weights are 0 or 1; where they are 0, values must be 0, too."""
    for axis, (radius, weight) in enumerate(zip(radii, weights, strict=True)):
        if radius:
            counts = _window_counts(weight, radius)
            scale = np.divide(2 * radius + 1, counts, out=np.zeros_like(counts), where=counts > 0)
            ndimage.uniform_filter1d(values, 2 * radius + 1, axis, output=values, mode="constant")
            values *= scale.reshape([-1 if a == axis else 1 for a in range(3)])
    return values


def _filtered(values: np.ndarray, guide: np.ndarray, radii: Sequence[int], eps: float, seen: np.ndarray) -> np.ndarray:
    """Guided filter (X, Y, Z) of values by a guide; slices where ``seen`` (Z,) is 0 are ignored."""
    weights = [np.ones(size, dtype=np.float32) for size in values.shape[:2]] + [seen]
    guide = guide * seen
    mean_guide = _box_mean(guide.copy(), radii, weights)
    mean_value = _box_mean(values * seen, radii, weights)
    slope = _box_mean(guide * values, radii, weights)
    slope -= mean_guide * mean_value
    variance = _box_mean(guide * guide, radii, weights)
    variance -= mean_guide * mean_guide
    slope /= np.maximum(variance, 0, out=variance) + np.float32(eps)
    offset = mean_value - slope * mean_guide
    slope *= seen
    offset *= seen
    result = _box_mean(slope, radii, weights)
    result *= guide
    result += _box_mean(offset, radii, weights)
    return np.clip(result, 0, 1, out=result)


class GuidedRefinement(Transform):
    """Sharpen an anomaly map along the edges of its scan, by a guided filter.

    The map of a network is as coarse as its tokens, which are several mm apart. The scan shows where a lesion ends. In
    every box, the filter fits the map by a linear function of the scan (least squares). Each voxel gets the average of
    the functions of all boxes around it (He, Sun, Tang: Guided Image Filtering, TPAMI 2013, equations 5, 6 and 8).

    MONAI has only bilateral filters: ``BilateralFilter`` has no guide, ``TrainableJointBilateralFilter`` needs a
    compiled extension, and both become slower with a larger radius. ``MeanFilter`` includes zeros beyond the border.
    Neither scikit-image nor ITK has a guided filter.

    The box extends ``radius_mm`` to each side, rounded to whole voxels of each axis. If slices are further apart than
    twice the radius, each slice is filtered separately. If this is true for all three axes, nothing changes. Boxes end
    at the border of the volume. The inferer skipped those slices along the last axis in which all channels of the
    result are 0. They stay 0, and the filter does not use them for their neighbours. Voxels that are 0 in both map and
    scan (padding, and air outside the body) stay 0, too.

    The filter computes in float32, slab by slab, with two threads if PyTorch uses as many. Besides the copy of the
    result, a call needs one byte per voxel and about 150 MB for each thread.

    Args:
        radius_mm: half the side of the box in mm; ``None`` if ``radius`` is given.
        eps: variance of the scan (values in [0, 1]) in a box that is the limit for an edge. If the variance is much
            smaller, the map is smoothed; if it is much larger, the map follows the scan.
        radius: half the side of the box in voxels instead of mm: one number, or one for each axis.
        spatial_dims: 3; or 2 to filter each slice along the last axis separately.

    Raises:
        ConfigurationError: not exactly one radius, or a value out of range.

    Example:
        >>> scan = torch.zeros(1, 12, 12, 5)
        >>> scan[:, 4:8, 4:8] = 1  # a lesion
        >>> coarse = torch.full((2, 12, 12, 5), 0.1)
        >>> coarse[:1, 2:8, 2:8] = 0.6  # larger than the lesion
        >>> refined = GuidedRefinement()(coarse, scan)
        >>> bool(refined[0, 3, 5, 2] < 0.4 < refined[0, 5, 5, 2]), torch.equal(refined[1], coarse[1])
        (True, True)
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012 - as MONAI declares it

    def __init__(
        self,
        radius_mm: float | None = 2.0,
        eps: float = 1e-3,
        radius: int | Sequence[int] | None = None,
        spatial_dims: int = 3,
    ) -> None:
        if (radius_mm is None) == (radius is None):
            raise ConfigurationError(
                f"radius_mm={radius_mm!r} and radius={radius!r}: give one of them, and None for the other."
            )
        if radius_mm is not None and not (np.isfinite(radius_mm) and radius_mm > 0):
            raise ConfigurationError(f"radius_mm={radius_mm!r} must be a positive number of mm, or None.")
        radii = tuple(radius) if isinstance(radius, Sequence) else (radius,) * 3
        if radius is not None and not (len(radii) == 3 and all(map(_is_radius, radii))):
            raise ConfigurationError(f"radius={radius!r}: a whole number of voxels, 0 or larger, or three are needed.")
        if not (np.isfinite(eps) and eps > 0):
            raise ConfigurationError(f"eps={eps!r} must be a positive number, a variance of a scan in [0, 1].")
        if spatial_dims not in (2, 3):
            raise ConfigurationError(f"spatial_dims={spatial_dims!r}: accepted are 2 (each slice) and 3.")
        self.radius_mm = radius_mm
        self.radius = None if radius is None else radii
        self.eps = eps
        self.spatial_dims = spatial_dims

    def __call__(self, img: NdarrayOrTensor, guide: NdarrayOrTensor) -> MetaTensor:
        """Refine the map.

        Args:
            img: result (C, X, Y, Z), channel 0 the anomaly map in [0, 1]; further channels (slice scores) are returned
                unchanged. The input itself is not changed.
            guide: scan (C', X, Y, Z) in [0, 1] on the same grid; the mean of its channels is the guide.

        Returns:
            (C, X, Y, Z), float32, channel 0 within [0, 1], with the metadata of ``img``. Voxel sizes come from the
            affine of the guide, or else of the map; without both, they are 1 mm.

        Raises:
            InputError: non-finite values, not four axes, different grids, an unusable affine, or guide values outside 0
                to 1.
        """
        result, scan = as_volume(img), as_volume(guide)
        require_finite(scan)
        self._check(result, scan)
        both = isinstance(img, MetaTensor) and isinstance(guide, MetaTensor)
        if both and not np.allclose(ras_affine(result), ras_affine(scan), atol=1e-3):
            raise InputError(
                f"the anomaly map and its guide, {describe(scan)}, have one shape but different affines: name the scan "
                "that the network saw."
            )
        out = result.as_tensor() if isinstance(result, MetaTensor) else result
        out = out.detach().to(torch.float32, copy=True)
        radii = self._radii(scan if isinstance(guide, MetaTensor) else result)
        if any(radii):
            plain = scan.as_tensor() if isinstance(scan, MetaTensor) else scan
            guiding = plain[:1] if len(plain) == 1 else plain.float().mean(0, keepdim=True)
            seen = torch.stack([channel.any(0).any(0) for channel in out]).any(0).cpu().numpy().astype(np.float32)
            self._refine(out[0], guiding[0].detach(), radii, seen)
        return MetaTensor(out).copy_meta_from(result) if isinstance(result, MetaTensor) else out

    def _check(self, result: torch.Tensor, scan: torch.Tensor) -> None:
        if not all_finite(result):
            raise InputError(
                f"the anomaly map of {describe(scan)} has non-finite values: check that the network's weights were "
                "loaded, and AMP off if it is on."
            )
        if result.shape[1:] != scan.shape[1:]:
            raise InputError(
                f"the anomaly map {tuple(result.shape[1:])} and its guide {tuple(scan.shape[1:])} lie on two grids: "
                "refine the map before Invertd, with the scan that the network saw."
            )
        low, high = float(scan.min()), float(scan.max())
        if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
            raise InputError(
                f"the guide, {describe(scan)}, has values from {low:g} to {high:g}, but [0, 1] is needed, for which "
                "eps is meant: scale it with ScanIntensity first."
            )

    def _radii(self, placed: torch.Tensor) -> list[int]:
        if self.radius is not None:
            radii = [int(radius or 0) for radius in self.radius]
        else:
            radii = [round(self.radius_mm / size) for size in affine_to_spacing(ras_affine(placed), 3)]
        return radii if self.spatial_dims == 3 else [*radii[:2], 0]

    def _refine(self, values: torch.Tensor, guide: torch.Tensor, radii: Sequence[int], seen: np.ndarray) -> None:
        """Filter values (X, Y, Z) in place, slab by slab along the axis on which slabs overlap in the fewest voxels."""
        axis = min(range(3), key=lambda one: radii[one] * values.select(one, 0).numel())
        values, guide = values.movedim(axis, 0), guide.movedim(axis, 0)
        rows, margin = len(values), 2 * radii[axis]
        step = max(1, margin, _SLAB_VOXELS // values[0].numel())
        workers = min(_MOST_WORKERS, torch.get_num_threads())
        # The next slab needs the original values of the rows that this slab overwrites.
        above = values[:0].cpu().numpy()
        running: list[Future[None]] = []
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, rows, step):
                stop = min(rows, start + step)
                first, last = max(0, start - margin), min(rows, stop + margin)
                own = np.concatenate([above, values[start:last].cpu().numpy()])
                above = own[max(0, stop - margin) - first : stop - first].copy()
                counting = seen[first:last] if axis == 2 else seen
                if not counting.any():
                    continue
                scan = guide[first:last].cpu().float().numpy()
                target = values[start:stop]
                running.append(pool.submit(self._refine_slab, target, own, scan, radii, counting, start - first, axis))
                if len(running) >= workers:
                    running.pop(0).result()
            for slab in running:
                slab.result()

    def _refine_slab(
        self,
        target: torch.Tensor,
        own: np.ndarray,
        scan: np.ndarray,
        radii: Sequence[int],
        counting: np.ndarray,
        begin: int,
        axis: int,
    ) -> None:
        """Filter one slab, and write its rows from ``begin``."""
        refined = _filtered(np.moveaxis(own, 0, axis), np.moveaxis(scan, 0, axis), radii, self.eps, counting)
        refined *= counting
        refined = np.moveaxis(refined, axis, 0)
        refined[(own == 0) & (scan == 0)] = 0
        target[...] = torch.from_numpy(refined[begin : begin + len(target)]).to(target.device)


class GuidedRefinementd(MapTransform):
    """Dictionary form of :class:`GuidedRefinement`.

    Args:
        keys: keys of the results.
        guide_key: key of the scan as the network saw it, in [0, 1].
        radius_mm: see :class:`GuidedRefinement`.
        eps: see :class:`GuidedRefinement`.
        radius: see :class:`GuidedRefinement`.
        spatial_dims: see :class:`GuidedRefinement`.
        allow_missing_keys: do not raise an error if a key is missing.

    Example:
        >>> data = {"pred": torch.rand(2, 6, 6, 3), "image": torch.rand(1, 6, 6, 3)}
        >>> GuidedRefinementd("pred")(data)["pred"].shape
        torch.Size([2, 6, 6, 3])
    """

    backend = GuidedRefinement.backend

    def __init__(
        self,
        keys: KeysCollection = "pred",
        guide_key: str = "image",
        radius_mm: float | None = 2.0,
        eps: float = 1e-3,
        radius: int | Sequence[int] | None = None,
        spatial_dims: int = 3,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.guide_key = guide_key
        self.refinement = GuidedRefinement(radius_mm, eps, radius, spatial_dims)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Refine every key; the other entries are passed on.

        Raises:
            InputError: the guide is missing, or :class:`GuidedRefinement` refuses the input.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            if self.guide_key not in d:
                raise InputError(f"guide_key={self.guide_key!r} is not among the data ({', '.join(map(str, d))}).")
            d[key] = self.refinement(d[key], d[self.guide_key])
        return d


GuidedRefinementD = GuidedRefinementDict = GuidedRefinementd

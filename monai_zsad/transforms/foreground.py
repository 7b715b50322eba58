"""Mask of the body: Otsu or a threshold, holes filled, small parts removed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends
from scipy import ndimage

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.transforms._volume import as_volume, box_of, describe, require_finite

__all__ = ["BodyMask", "BodyMaskD", "BodyMaskDict", "BodyMaskd"]

_MOST_WORKERS = 2
_SLABS = 16
# Comparisons are faster than a lookup of each voxel for a few parts.
_MOST_COMPARED = 8
_AIR_HU = -1024.0
_THRESHOLD_SAMPLES = 20_000_000
# Share of a photograph's largest value: brighter than the noise of a black surround.
_BLACK = 1 / 16


def _otsu(values: np.ndarray, floor: float | None) -> float:
    """Otsu's threshold on a regular subsample, without the darkest and brightest 0.5 % (metal, stray padding)."""
    from skimage.filters import threshold_otsu

    step = max(1, ceil((values.size / _THRESHOLD_SAMPLES) ** (1 / 3)))
    # A copy, which can be sorted and clipped in place.
    sample = values[::step, ::step, ::step].flatten()
    low, high = (float(value) for value in np.percentile(sample, (0.5, 99.5), overwrite_input=True))
    if low == high:
        low, high = float(values.min()), float(values.max())
    if floor is not None and floor < high:
        low = max(low, floor)
    clipped = np.clip(sample, low, high, out=sample)
    lowest, highest = clipped.min(), clipped.max()
    if lowest == highest:
        return (low + high) / 2
    # Otsu returns the centre of a bin, and voxels of this bin lie on both sides of it. The bin's upper edge separates
    # them, and the threshold is then the middle between the nearest values.
    bins = 256
    edge = threshold_otsu(clipped, nbins=bins) + (highest - lowest) / (2 * bins)
    below = clipped < edge
    darker = np.max(clipped, where=below, initial=lowest)
    return (float(darker) + float(np.min(clipped, where=~below, initial=highest))) / 2


def _fill_slices(mask: np.ndarray, filled: np.ndarray) -> None:
    """Set the holes of each slice across the first axis: background that does not reach the slice's edge."""
    for own, out in zip(mask, filled, strict=True):
        labels, count = ndimage.label(~own)
        outside = np.zeros(count + 1, dtype=bool)
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            outside[edge] = True
        if not outside[1:].all():
            out |= ~outside[labels]


class BodyMask(Transform):
    """Mask of the body: brighter than the background, holes filled, small parts removed.

    MONAI's ``ForegroundMask`` thresholds RGB images with bright background and neither fills holes nor removes
    small parts. ``FillHoles`` fills only holes that are enclosed in all three dimensions, so that airways and ears,
    which are open to the outside, stay empty. Here a hole is filled where it is enclosed within a slice of any of the
    three array directions. A gap between limbs that enclose it is filled too.

    Otsu's threshold does not depend on an offset or a scale of the values. In a CT (``meta["modality"] == "CT"``),
    values below -1024 HU count as air, because they are the padding around a round field of view. In a photograph
    (``meta["colour"] == "RGB"``), only the black surround is background: there Otsu's threshold would separate dark
    lesions from the skin around them.

    Args:
        method: ``"otsu"``, or a threshold in the units of the volume: voxels above it are the body.
        fill_holes: fill holes, as described above.
        keep_largest: keep only the largest connected part. By default, every part stays that has at least ``min_part``
            of the voxels of the largest part, for example a second leg.
        min_part: smallest part that stays, as a fraction (0 to 1) of the largest one.

    Raises:
        ConfigurationError: an unknown method, or ``min_part`` outside [0, 1].

    Example:
        >>> import torch
        >>> scan = torch.zeros(1, 8, 8, 8)
        >>> scan[:, 2:6, 2:6, 2:6] = 100
        >>> scan[:, 3, 3, 3] = 0
        >>> int(BodyMask()(scan).sum())
        64
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012 - as MONAI declares it

    def __init__(
        self,
        method: str | float = "otsu",
        fill_holes: bool = True,
        keep_largest: bool = False,
        min_part: float = 0.05,
    ) -> None:
        is_number = isinstance(method, (int, float)) and not isinstance(method, bool) and bool(np.isfinite(method))
        if method != "otsu" and not is_number:
            raise ConfigurationError(f"method={method!r}: accepted are 'otsu' or a finite number (a threshold).")
        if not 0 <= min_part <= 1:
            raise ConfigurationError(f"min_part={min_part!r} must lie in [0, 1], a fraction of the largest part.")
        self.method = method
        self.fill_holes = fill_holes
        self.keep_largest = keep_largest
        self.min_part = min_part

    def __call__(self, img: NdarrayOrTensor) -> MetaTensor:
        """Compute the mask.

        Args:
            img: volume (C, X, Y, Z). With several channels, the largest value of each voxel counts.

        Returns:
            Boolean mask (1, X, Y, Z) with the metadata of the volume. In a constant volume, no body is visible; with
            ``"otsu"``, all voxels are foreground.

        Raises:
            InputError: NaN or infinite voxels, not four axes, or no voxel above the given threshold.
        """
        volume = as_volume(img)
        require_finite(volume)
        plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
        values = (plain[0] if len(plain) == 1 else plain.amax(dim=0)).detach().cpu().float().numpy()
        mask = self._mask(values, volume)
        out = torch.from_numpy(mask)[None].to(volume.device)
        return MetaTensor(out).copy_meta_from(volume) if isinstance(volume, MetaTensor) else out

    def _mask(self, values: np.ndarray, volume: torch.Tensor) -> np.ndarray:
        if isinstance(self.method, str):
            if values.min() == values.max():
                return np.ones(values.shape, dtype=bool)
            meta = volume.meta if isinstance(volume, MetaTensor) else {}
            if meta.get("colour") == "RGB":
                mask = values > _BLACK * values.max()
            else:
                mask = values > _otsu(values, _AIR_HU if str(meta.get("modality", "")).upper() == "CT" else None)
        else:
            mask = values > self.method
            if not mask.any():
                raise InputError(
                    f"{describe(volume)} has no voxel above the foreground threshold {self.method}: its values run "
                    f"from {values.min():g} to {values.max():g}. Lower the threshold, or use method='otsu'."
                )
        # Outside the box of the mask, all voxels are background and connected to the edges of the slices.
        box = box_of(mask)
        inner = self._without_specks(mask[box].copy())
        mask[box] = inner
        if self.fill_holes:
            workers = min(_MOST_WORKERS, torch.get_num_threads())
            with ThreadPoolExecutor(workers) as pool:
                for axis in range(3):
                    # One axis after the other, because all of them set the same voxels.
                    parts = (np.array_split(np.moveaxis(one, axis, 0), workers) for one in (inner, mask[box]))
                    list(pool.map(_fill_slices, *parts))
        return mask

    def _without_specks(self, mask: np.ndarray) -> np.ndarray:
        labels, count = ndimage.label(mask)
        if count < 2:
            return mask
        # Slab by slab: numpy counts in int64, and the copy of a whole volume does not fit into the cache.
        slabs = np.array_split(labels, min(_SLABS, len(labels)))
        sizes = np.sum([np.bincount(slab.ravel(), minlength=count + 1) for slab in slabs], axis=0)
        sizes[0] = 0
        least = max(1, self.min_part * sizes.max())
        kept = [int(sizes.argmax())] if self.keep_largest else np.flatnonzero(sizes >= least).tolist()
        if len(kept) > _MOST_COMPARED:
            keep = np.zeros(count + 1, dtype=bool)
            keep[kept] = True
            return keep[labels]
        mask = labels == kept[0]
        for label in kept[1:]:
            mask |= labels == label
        return mask


class BodyMaskd(MapTransform):
    """Dictionary form of :class:`BodyMask`.

    Args:
        keys: keys of the volumes.
        method: see :class:`BodyMask`.
        fill_holes: see :class:`BodyMask`.
        keep_largest: see :class:`BodyMask`.
        min_part: see :class:`BodyMask`.
        new_key_prefix: the mask of ``"image"`` goes to ``new_key_prefix + "image"``; ``None`` replaces the volume.
        allow_missing_keys: do not raise an error if a key is missing.

    Example:
        >>> import torch
        >>> sorted(BodyMaskd("image")({"image": torch.rand(1, 4, 4, 4)}))
        ['image', 'mask_image']
    """

    backend = BodyMask.backend

    def __init__(
        self,
        keys: KeysCollection,
        method: str | float = "otsu",
        fill_holes: bool = True,
        keep_largest: bool = False,
        min_part: float = 0.05,
        new_key_prefix: str | None = "mask_",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask = BodyMask(method, fill_holes, keep_largest, min_part)
        self.new_key_prefix = new_key_prefix or ""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the mask of every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[f"{self.new_key_prefix}{key}"] = self.mask(d[key])
        return d


BodyMaskD = BodyMaskDict = BodyMaskd

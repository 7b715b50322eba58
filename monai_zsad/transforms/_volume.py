"""Checks of the input for all transforms: channel-first, three spatial axes, finite values, a usable affine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.utils import SpaceKeys, convert_to_tensor

from monai_zsad.errors import InputError

__all__ = [
    "SPACING_TOLERANCE",
    "all_finite",
    "as_volume",
    "box_of",
    "describe",
    "each_voxel",
    "ras_affine",
    "require_finite",
]

SPACING_TOLERANCE = 1e-3
"""Relative difference below which two voxel spacings count as equal."""

_SLAB_VOXELS = 1_000_000


def describe(img: torch.Tensor) -> str:
    """Name of a volume for messages: its file, if the metadata hold it."""
    name = img.meta.get("filename_or_obj") if isinstance(img, MetaTensor) else None
    return f"the scan {name!r}" if isinstance(name, str) and name else "the volume"


def as_volume(img: NdarrayOrTensor) -> MetaTensor:
    """The input as a channel-first MetaTensor (C, X, Y, Z); a plain tensor only under ``set_track_meta(False)``.

    Raises:
        InputError: the input does not have one channel axis and three spatial axes.
    """
    volume: torch.Tensor = convert_to_tensor(img, track_meta=get_track_meta())
    if volume.ndim != 4 or volume.numel() == 0:
        raise InputError(
            f"{describe(volume)} has the shape {tuple(volume.shape)}, but a channel-first volume (C, X, Y, Z) is "
            "needed: load it with LoadImaged(ensure_channel_first=True); a series of volumes must be split."
        )
    return volume


def _slabs(img: torch.Tensor) -> Iterator[tuple[int, slice]]:
    """Channel and rows of the parts of a volume (C, X, Y, Z), about a million voxels each."""
    rows = max(1, _SLAB_VOXELS // max(1, img[0, 0].numel()))
    for channel in range(len(img)):
        for start in range(0, img.shape[1], rows):
            yield channel, slice(start, start + rows)


def all_finite(img: torch.Tensor) -> bool:
    """Whether a volume (C, X, Y, Z) holds neither NaN nor infinity. In slabs, because PyTorch makes copies."""
    plain = img.as_tensor() if isinstance(img, MetaTensor) else img
    if not plain.is_floating_point():
        return True
    # NaN and infinity show in the extremes, which need no second volume of answers.
    extremes = (torch.aminmax(plain[channel, rows]) for channel, rows in _slabs(plain))
    return all(bool(torch.isfinite(low) and torch.isfinite(high)) for low, high in extremes)


def each_voxel(img: torch.Tensor, function: Callable[[torch.Tensor], NdarrayOrTensor]) -> torch.Tensor:
    """Apply a function of single voxels to a volume (C, X, Y, Z); returns float32 with its metadata.

    It works in slabs, because each step of an expression would need the memory of another volume.
    """
    plain = img.as_tensor() if isinstance(img, MetaTensor) else img
    out = torch.empty(plain.shape, dtype=torch.float32, device=plain.device)
    for channel, rows in _slabs(plain):
        out[channel, rows] = torch.as_tensor(function(plain[channel, rows]))
    return MetaTensor(out).copy_meta_from(img) if isinstance(img, MetaTensor) else out


def box_of(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box around the set voxels of a mask (X, Y, Z). For an empty mask, it is the first voxel."""
    box = []
    for axis in range(3):
        places = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 1))
    return tuple(box)


def require_finite(img: torch.Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        InputError: with the number of non-finite voxels.
    """
    if not all_finite(img):
        count = int((~torch.isfinite(img)).sum())
        raise InputError(
            f"{describe(img)} has {count} of {img.numel()} voxels that are NaN or infinite: repair the file, or "
            "replace them first, for example with torch.nan_to_num."
        )


def ras_affine(img: torch.Tensor) -> np.ndarray:
    """The 4 x 4 voxel-to-world matrix in mm, RAS, float64; the identity if the input has none.

    Raises:
        InputError: the matrix is singular or not finite.
    """
    if not isinstance(img, MetaTensor):
        return np.eye(4)
    affine = np.asarray(img.affine, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise InputError(
            f"{describe(img)} has no usable affine ({affine.tolist()}): a finite, invertible 4 x 4 matrix in mm is "
            "needed. Convert the scan again from its DICOM series, or repair the header."
        )
    if img.meta.get("space") == SpaceKeys.LPS:
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return affine

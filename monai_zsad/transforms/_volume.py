"""What every transform of this room asks of its input: channel-first, three spatial axes, finite, a usable affine."""

from __future__ import annotations

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor, get_track_meta
from monai.utils import SpaceKeys, convert_to_tensor

from monai_zsad.errors import InputError

__all__ = ["SPACING_TOLERANCE", "as_volume", "describe", "ras_affine", "require_finite"]

SPACING_TOLERANCE = 1e-3
"""Relative difference below which two voxel spacings count as equal."""


def describe(img: torch.Tensor) -> str:
    """Name of a volume for messages: its file where the metadata knows it."""
    name = img.meta.get("filename_or_obj") if isinstance(img, MetaTensor) else None
    return f"the scan {name!r}" if isinstance(name, str) and name else "the volume"


def as_volume(img: NdarrayOrTensor) -> MetaTensor:
    """The input as a channel-first MetaTensor (C, X, Y, Z); a plain tensor only under ``set_track_meta(False)``.

    Raises:
        InputError: the input has not one channel axis and three spatial axes.
    """
    volume: torch.Tensor = convert_to_tensor(img, track_meta=get_track_meta())
    if volume.ndim != 4 or volume.numel() == 0:
        raise InputError(
            f"{describe(volume)} has the shape {tuple(volume.shape)}, but a channel-first volume (C, X, Y, Z) is "
            "needed: load it with LoadImaged(ensure_channel_first=True); a series of volumes must be split."
        )
    return volume


def require_finite(img: torch.Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        InputError: with the number of non-finite voxels.
    """
    if img.is_floating_point() and not bool(torch.isfinite(img).all()):
        count = int((~torch.isfinite(img)).sum())
        raise InputError(
            f"{describe(img)} has {count} of {img.numel()} voxels that are NaN or infinite: repair the file, or "
            "replace them first, for example with torch.nan_to_num."
        )


def ras_affine(img: torch.Tensor) -> np.ndarray:
    """The 4 x 4 voxel-to-world matrix in mm, RAS, float64; the identity where the input carries none.

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

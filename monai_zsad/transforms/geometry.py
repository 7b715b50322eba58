"""Geometry of the slices: isotropic pixels, a square frame, cropped to the body."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import (
    CropForeground,
    CropForegroundd,
    InvertibleTransform,
    MapTransform,
    Padd,
    SpatialPad,
    SpatialResample,
)
from monai.transforms.utils import generate_spatial_bounding_box
from monai.utils import TransformBackends

from monai_zsad.errors import ConfigurationError
from monai_zsad.transforms._volume import SPACING_TOLERANCE, as_volume, ras_affine
from monai_zsad.transforms.foreground import BodyMask

__all__ = [
    "BodyCrop",
    "BodyCropD",
    "BodyCropDict",
    "BodyCropd",
    "InPlaneSpacing",
    "InPlaneSpacingD",
    "InPlaneSpacingDict",
    "InPlaneSpacingd",
    "SquarePad",
    "SquarePadD",
    "SquarePadDict",
    "SquarePadd",
]


class InPlaneSpacing(InvertibleTransform):
    """Make the pixels of each slice isotropic; the third axis, through the slices, does not change.

    MONAI's ``Spacing`` takes fixed spacings, moves the origin to a corner voxel and removes shear, which would move the
    slices. Here the target spacing depends on the scan, and the centre of the volume does not move. MONAI's
    ``SpatialResample`` does the resampling. If the pixels already have the target size within 0.1 %, no voxel changes.

    The interpolation is linear. At the border, the outermost voxel is repeated. For a coarser spacing, there is no
    low-pass filter.

    Args:
        spacing_mm: pixel size in mm of both axes; ``None`` takes the smaller one of the scan's two pixel sizes.
        mode: interpolation of MONAI's ``SpatialResample``: ``"bilinear"`` (in three dimensions: trilinear) or
            ``"nearest"``.

    Raises:
        ConfigurationError: a spacing that is not a positive number.

    Example:
        >>> scan = MetaTensor(torch.zeros(1, 10, 10, 4), affine=torch.diag(torch.tensor([1.0, 2.0, 5.0, 1.0])))
        >>> out = InPlaneSpacing()(scan)
        >>> tuple(out.shape), affine_to_spacing(out.affine).tolist()
        ((1, 10, 20, 4), [1.0, 1.0, 5.0])
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - as MONAI declares it

    def __init__(self, spacing_mm: float | None = None, mode: str = "bilinear") -> None:
        if spacing_mm is not None and not (np.isfinite(spacing_mm) and spacing_mm > 0):
            raise ConfigurationError(f"spacing_mm={spacing_mm!r} must be a positive number of mm, or None.")
        self.spacing_mm = spacing_mm
        # The sampling grid is the largest array of a run. In float32 it needs half the memory, and its coordinates are
        # accurate to 1e-4 voxels.
        self.resample = SpatialResample(mode=mode, padding_mode="border", dtype=torch.float32)

    def __call__(self, img: NdarrayOrTensor) -> MetaTensor:
        """Resample the first two axes if necessary.

        Args:
            img: volume (C, rows, columns, slices).

        Returns:
            (C, rows', columns', slices), float32, with its affine.

        Raises:
            InputError: not four axes, or an affine that is singular or not finite.
        """
        volume = as_volume(img)
        ras_affine(volume)
        affine = np.asarray(volume.affine, dtype=np.float64) if isinstance(volume, MetaTensor) else np.eye(4)
        shape = np.array(volume.shape[1:])
        current = affine_to_spacing(affine, 3)[:2]
        wanted = self.spacing_mm or current.min()
        if np.all(np.abs(current / wanted - 1) <= SPACING_TOLERANCE):
            return self.resample(volume, spatial_size=-1)
        target, new_shape = affine.copy(), shape.copy()
        target[:3, :2] *= wanted / current
        new_shape[:2] = np.maximum(1, np.round(shape[:2] * current / wanted))
        target[:3, 3] += affine[:3, :3] @ ((shape - 1) / 2) - target[:3, :3] @ ((new_shape - 1) / 2)
        return self.resample(volume, dst_affine=torch.from_numpy(target), spatial_size=new_shape.tolist())

    def inverse(self, data: torch.Tensor) -> MetaTensor:
        """Resample to the grid that the volume had before the transform."""
        return self.resample.inverse(data)


class InPlaneSpacingd(MapTransform, InvertibleTransform):
    """Dictionary form of :class:`InPlaneSpacing`.

    Args:
        keys: keys of the volumes.
        spacing_mm: see :class:`InPlaneSpacing`.
        mode: see :class:`InPlaneSpacing`.
        allow_missing_keys: do not raise an error if a key is missing.

    Example:
        >>> InPlaneSpacingd("image", spacing_mm=0.5)({"image": MetaTensor(torch.zeros(1, 4, 4, 4))})["image"].shape
        torch.Size([1, 8, 8, 4])
    """

    backend = InPlaneSpacing.backend

    def __init__(
        self,
        keys: KeysCollection,
        spacing_mm: float | None = None,
        mode: str = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing = InPlaneSpacing(spacing_mm, mode)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample every key; the other entries are passed on."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.spacing(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resample every key to the grid that it had before the transform."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.spacing.inverse(d[key])
        return d


class SquarePad(SpatialPad):
    """Pad the first two axes symmetrically to a square.

    MONAI's ``SpatialPad`` was not enough: it needs the side length beforehand.

    Args:
        value: value of the padding; 0 is black if the intensities are in [0, 1].

    Example:
        >>> SquarePad()(torch.zeros(1, 10, 20, 4)).shape
        torch.Size([1, 20, 20, 4])
    """

    def __init__(self, value: float = 0.0) -> None:
        super().__init__(spatial_size=-1, value=value)

    def compute_pad_width(self, spatial_shape: Sequence[int]) -> tuple[tuple[int, int]]:
        """Padding of the channel and of each spatial axis, in the form that MONAI's ``Pad`` needs."""
        side = max(spatial_shape[:2])
        return SpatialPad((side, side, *spatial_shape[2:])).compute_pad_width(spatial_shape)


class SquarePadd(Padd):
    """Dictionary form of :class:`SquarePad`.

    Args:
        keys: keys of the volumes.
        value: see :class:`SquarePad`.
        allow_missing_keys: do not raise an error if a key is missing.

    Example:
        >>> SquarePadd("image")({"image": torch.zeros(1, 3, 2, 4)})["image"].shape
        torch.Size([1, 3, 3, 4])
    """

    def __init__(self, keys: KeysCollection, value: float = 0.0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, padder=SquarePad(value), allow_missing_keys=allow_missing_keys)


class BodyCrop(CropForeground):
    """Crop to the bounding box of the body with a margin in mm; the box stays within the volume.

    MONAI's ``CropForeground`` does the cropping and its inverse (0 outside the box). But its margin is in voxels, the
    same number for every scan, and its foreground depends only on the value of each single voxel.

    Args:
        margin_mm: margin on all six sides in mm, rounded up to whole voxels of each axis.
        foreground: maps the volume (C, X, Y, Z) to a mask (1, X, Y, Z); ``None`` is :class:`BodyMask` with its
            defaults.

    Raises:
        ConfigurationError: a margin that is negative or not finite.

    Example:
        >>> scan = MetaTensor(torch.zeros(1, 40, 40, 10), affine=torch.diag(torch.tensor([1.0, 1.0, 5.0, 1.0])))
        >>> scan[:, 15:25, 15:25, 4:6] = 1
        >>> BodyCrop(margin_mm=10)(scan).shape
        torch.Size([1, 30, 30, 6])
    """

    def __init__(
        self, margin_mm: float = 10.0, foreground: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> None:
        super().__init__(allow_smaller=True)
        if not (np.isfinite(margin_mm) and margin_mm >= 0):
            raise ConfigurationError(f"margin_mm={margin_mm!r} must be a number of mm, 0 or larger.")
        self.margin_mm = margin_mm
        self.foreground = BodyMask() if foreground is None else foreground

    @property
    def requires_current_data(self) -> bool:
        """The box depends on the voxels."""
        return True

    def compute_bounding_box(self, img: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """First voxel and one past the last voxel of the box, margin included.

        Args:
            img: volume (C, X, Y, Z).

        Raises:
            InputError: ``foreground`` refuses the volume, or the affine is singular or not finite.
        """
        volume = as_volume(img)
        spacing = affine_to_spacing(ras_affine(volume), 3)
        # a spacing of 0.9999999 mm must not turn a margin of 10 mm into 11 voxels
        margin = np.ceil(self.margin_mm / spacing - SPACING_TOLERANCE).astype(int).tolist()
        mask = self.foreground(volume)
        start, end = generate_spatial_bounding_box(mask, margin=margin, allow_smaller=True)
        if not any(end):  # an empty mask: MONAI's box is empty
            end = list(volume.shape[1:])
        return np.asarray(start), np.asarray(end)


class BodyCropd(CropForegroundd):
    """Dictionary form of :class:`BodyCrop`: one box for all keys.

    Args:
        keys: keys of the volumes, all on one grid.
        source_key: key of the volume that shows the body; ``None`` is the first of ``keys``.
        margin_mm: see :class:`BodyCrop`.
        foreground: see :class:`BodyCrop`.
        start_coord_key: key under which the first voxel of the box is stored; ``None`` does not store it.
        end_coord_key: key for the index after the last voxel; ``None`` does not store it.
        allow_missing_keys: do not raise an error if a key is missing.

    Example:
        >>> scan = MetaTensor(torch.zeros(1, 9, 9, 9))
        >>> scan[:, 4, 4, 4] = 1
        >>> BodyCropd("image", margin_mm=2)({"image": scan})["image"].shape
        torch.Size([1, 5, 5, 5])
    """

    def __init__(
        self,
        keys: KeysCollection,
        source_key: str | None = None,
        margin_mm: float = 10.0,
        foreground: Callable[[torch.Tensor], torch.Tensor] | None = None,
        start_coord_key: str | None = None,
        end_coord_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(
            keys,
            source_key=source_key or "",
            start_coord_key=start_coord_key,
            end_coord_key=end_coord_key,
            allow_missing_keys=allow_missing_keys,
        )
        self.cropper: Any = BodyCrop(margin_mm, foreground)
        self.source_key: Hashable = source_key or self.keys[0]


InPlaneSpacingD = InPlaneSpacingDict = InPlaneSpacingd
SquarePadD = SquarePadDict = SquarePadd
BodyCropD = BodyCropDict = BodyCropd

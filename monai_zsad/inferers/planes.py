"""Geometry of slices: how a volume is cut along a plane, shown upright, and reassembled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.utils import MetaKeys, SpaceKeys
from nibabel.affines import voxel_sizes
from nibabel.orientations import io_orientation

from monai_zsad.errors import ConfigurationError, InputError

__all__ = ["PLANES", "PLAIN_AFFINE", "SlicePlane", "named_plane", "native_plane", "volume_affines", "volume_planes"]

PLANES: dict[str, tuple[int, int]] = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}
"""World axes (RAS: 0 = x, 1 = y, 2 = z) of a plane's rows and columns. In an upright slice, both run against the world
axis: rows to posterior or inferior, columns to left or posterior."""

PLAIN_AFFINE = np.array([[0.0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
"""Affine (voxel to RAS, mm) for volumes without one: axes (P, L, S), 1 mm."""


@dataclass(frozen=True)
class SlicePlane:
    """Slices of a volume (..., X, Y, Z) along one plane, and their reassembly.

    Volumes and slices are never changed in place. Only :meth:`slices` returns a view of the volume.

    Args:
        name: "axial", "coronal" or "sagittal": the anatomical plane (the nearest one for oblique volumes).
        axis: spatial axis of the volume (0 to 2) that runs through the slices.
        rows: spatial axis along which a slice's rows are counted (downwards).
        columns: spatial axis along which a slice's columns are counted (to the right).
        flip: whether rows and columns are reversed in upright slices.
        shape: rows and columns of a slice on the volume's grid.
        spacing: mm between rows and between columns on the volume's grid.
        through_spacing: mm between slices.
        size: rows and columns after in-plane resampling; equal to ``shape`` without resampling.
        square: whether slices are padded to a square with zeros, evenly on both sides.

    Example:
        >>> plane = named_plane("coronal", (4, 6, 5), PLAIN_AFFINE)
        >>> volume = torch.rand(1, 4, 6, 5)
        >>> upright = plane.prepare(plane.slices(volume))
        >>> upright.shape  # 4 slices of 5 x 6 pixels, padded
        torch.Size([4, 1, 6, 6])
        >>> torch.equal(plane.restore(upright), plane.slices(volume))
        True
    """

    name: str
    axis: int
    rows: int
    columns: int
    flip: tuple[bool, bool]
    shape: tuple[int, int]
    spacing: tuple[float, float]
    through_spacing: float
    size: tuple[int, int]
    square: bool

    @property
    def prepared_size(self) -> tuple[int, int]:
        """Rows and columns of a slice for the network."""
        return (max(self.size), max(self.size)) if self.square else self.size

    @property
    def prepared_spacing(self) -> tuple[float, float]:
        """Distance in mm between rows and between columns of a slice for the network."""
        rows, columns = (s * n / m for s, n, m in zip(self.spacing, self.shape, self.size, strict=True))
        return rows, columns

    def slices(self, volume: torch.Tensor) -> torch.Tensor:
        """A view (slices, ..., rows, columns) of a volume (..., X, Y, Z), not yet upright.

        Args:
            volume: (..., X, Y, Z).

        Returns:
            (slices, ..., rows, columns), which shares memory with the volume.
        """
        lead = volume.ndim - 3
        order = (lead + self.axis, *range(lead), lead + self.rows, lead + self.columns)
        return volume.permute(order)

    def prepare(self, slices: torch.Tensor) -> torch.Tensor:
        """Make slices (N, C, *shape) upright, isotropic and square: (N, C, *prepared_size).

        Args:
            slices: (N, C, rows, columns), from :meth:`slices`.

        Returns:
            (N, C, side, side).
        """
        slices = self._flipped(slices)
        if self.size != self.shape:
            slices = F.interpolate(slices, size=self.size, mode="bilinear", align_corners=False)
        return F.pad(slices, self._padding()).contiguous()

    def restore(self, slices: torch.Tensor) -> torch.Tensor:
        """Reverse :meth:`prepare`: (N, C, *prepared_size) to (N, C, *shape).

        Args:
            slices: (N, C, side, side), from :meth:`prepare` or a network.

        Returns:
            (N, C, rows, columns).
        """
        left, _, top, _ = self._padding()
        slices = slices[..., top : top + self.size[0], left : left + self.size[1]]
        if self.size != self.shape:
            slices = F.interpolate(slices, size=self.shape, mode="bilinear", align_corners=False)
        return self._flipped(slices)

    def _flipped(self, slices: torch.Tensor) -> torch.Tensor:
        dims = [dim for dim, flip in zip((-2, -1), self.flip, strict=True) if flip]
        return slices.flip(dims) if dims else slices

    def _padding(self) -> tuple[int, int, int, int]:
        (rows, columns), (height, width) = self.size, self.prepared_size
        top, left = (height - rows) // 2, (width - columns) // 2
        return left, width - columns - left, top, height - rows - top


def native_plane(shape: Sequence[int], affine: np.ndarray) -> SlicePlane:
    """The slices along the volume's last axis, unchanged: rows are the first axis, columns the second.

    Args:
        shape: spatial shape (X, Y, Z) of the volume.
        affine: 4 x 4, voxel to RAS in mm. It gives the spacing and the plane's name.

    Returns:
        A plane without flips, resampling and padding.

    Raises:
        InputError: if the affine is not finite or not invertible.

    Example:
        >>> native_plane((8, 8, 3), np.diag([0.5, 0.5, 4, 1])).spacing
        (0.5, 0.5)
    """
    world, _, spacing = _orientation(affine)
    name = next(name for name, axes in PLANES.items() if world[2] not in axes)
    size = (int(shape[0]), int(shape[1]))
    return SlicePlane(
        name=name,
        axis=2,
        rows=0,
        columns=1,
        flip=(False, False),
        shape=size,
        spacing=(spacing[0], spacing[1]),
        through_spacing=spacing[2],
        size=size,
        square=False,
    )


def named_plane(name: str, shape: Sequence[int], affine: np.ndarray) -> SlicePlane:
    """The plane of the voxel grid nearest to an anatomical plane, shown upright, isotropic and square.

    Axial slices have posterior at the bottom and the patient's left on the right, coronal ones inferior at the bottom
    and left on the right, sagittal ones inferior at the bottom and posterior on the right. Oblique volumes are not
    rotated: each voxel axis is assigned to the nearest world axis. In-plane, the direction with the larger spacing is
    resampled to the smaller spacing.

    Args:
        name: "axial", "coronal" or "sagittal".
        shape: spatial shape (X, Y, Z) of the volume.
        affine: 4 x 4, voxel to RAS in mm.

    Returns:
        The plane.

    Raises:
        ConfigurationError: if the name is unknown.
        InputError: if the affine is not finite or not invertible.

    Example:
        >>> plane = named_plane("sagittal", (64, 64, 20), np.diag([1.0, 0.5, 2, 1]))
        >>> plane.shape, plane.size, plane.flip
        ((20, 64), (80, 64), (True, True))
    """
    if name not in PLANES:
        raise ConfigurationError(f"plane {name!r} is unknown: choose from {', '.join(PLANES)}.")
    world, signs, spacing = _orientation(affine)
    rows, columns = (world.index(axis) for axis in PLANES[name])
    axis = 3 - rows - columns
    finest = min(spacing[rows], spacing[columns])
    size = tuple(max(1, round(shape[a] * spacing[a] / finest)) for a in (rows, columns))
    return SlicePlane(
        name=name,
        axis=axis,
        rows=rows,
        columns=columns,
        flip=(signs[rows] > 0, signs[columns] > 0),
        shape=(int(shape[rows]), int(shape[columns])),
        spacing=(spacing[rows], spacing[columns]),
        through_spacing=spacing[axis],
        size=(size[0], size[1]),
        square=True,
    )


def volume_planes(inputs: torch.Tensor, names: Sequence[str] | None) -> list[list[SlicePlane]]:
    """The planes along which each volume of a batch is cut.

    Args:
        inputs: (B, C, X, Y, Z).
        names: names of planes; None for the slices along the last axis.

    Returns:
        For each volume, one plane for each name.

    Raises:
        ConfigurationError: if the inputs are not five-dimensional.
        InputError: if an affine cannot be used.
    """
    if inputs.ndim != 5:
        raise ConfigurationError(
            f"inputs of shape {tuple(inputs.shape)} are not volumes (batch, channels, X, Y, Z): use "
            "EnsureChannelFirstd and a DataLoader before."
        )
    shape = inputs.shape[2:]
    if names is None:
        return [[native_plane(shape, affine)] for affine in volume_affines(inputs)]
    return [[named_plane(name, shape, affine) for name in names] for affine in volume_affines(inputs)]


def volume_affines(inputs: torch.Tensor) -> list[np.ndarray]:
    """Voxel to RAS, 4 x 4 in mm, for each volume of a batch (B, C, X, Y, Z).

    Raises:
        InputError: if a MetaTensor holds neither one affine for all volumes nor one for each.
    """
    count = len(inputs)
    if not isinstance(inputs, MetaTensor):
        return [PLAIN_AFFINE] * count
    affine = np.asarray(inputs.affine.detach().cpu(), dtype=float)
    affines = list(affine) if affine.ndim == 3 else [affine] * count
    space = inputs.meta.get(MetaKeys.SPACE, SpaceKeys.RAS)
    spaces = list(space) if isinstance(space, (list, tuple)) else [space] * count
    if len(affines) != count or len(spaces) != count or any(a.shape != (4, 4) for a in affines):
        raise InputError(
            f"inputs hold {count} volumes but affines of shape {affine.shape}, instead of one 4 x 4 matrix for all or "
            "one for each: collate volumes with monai.data.DataLoader or list_data_collate."
        )
    to_ras = np.diag([-1.0, -1, 1, 1])
    return [to_ras @ a if s == SpaceKeys.LPS else a for a, s in zip(affines, spaces, strict=True)]


def _orientation(affine: np.ndarray) -> tuple[list[int], list[float], list[float]]:
    """For each voxel axis: the nearest RAS world axis, its sign along it, and the spacing in mm."""
    affine = np.asarray(affine, dtype=float)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        raise InputError(
            f"the volume's affine {affine.tolist()} is not an invertible 4 x 4 matrix of finite numbers: "
            "repair the scan's header, or pass a plain tensor without an affine."
        )
    orientation = io_orientation(affine)
    if np.isnan(orientation).any():
        raise InputError(f"the axes of the volume's affine {affine.tolist()} are not independent: repair its header.")
    world = [int(axis) for axis in orientation[:, 0]]
    return world, [float(s) for s in orientation[:, 1]], [float(s) for s in voxel_sizes(affine)]

"""Slabs: a slice with its neighbours, cut out of a volume at random for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from monai_zsad.errors import ConfigurationError
from monai_zsad.synthesis.lesions.shapes import waves

__all__ = ["Slab", "SlabSettings", "cut_slab", "extract_slab"]

# As a fraction of the largest area in which lesions may lie.
_WIDE = 0.25
# Shorter wavelengths would fold tissue over itself.
_WARP_WAVELENGTH_MM = (50.0, 150.0)

# (axis, sign) of row, column and slice of each upright plane, in a volume with axes (posterior, left, superior).
_PLANES = {
    "axial": ((0, 1), (1, 1), (2, 1)),
    "coronal": ((2, -1), (1, 1), (0, 1)),
    "sagittal": ((2, -1), (0, 1), (1, 1)),
}


@dataclass(frozen=True)
class SlabSettings:
    """Settings of :func:`cut_slab`; pairs are the ends of ranges.

    Args:
        size: rows and columns in pixels.
        field_mm: side of the field of view, as a fraction of the body's larger side in the plane.
        gap_mm: distance between a slice and its neighbours.
        planes: relative frequency of each plane.
        tilt_degrees: rotation about the axes within the plane.
        turn_degrees: rotation within the plane.
        flip: fraction of slabs that are mirrored left to right.
        warp_mm: standard deviation of a smooth displacement, which imitates the anatomy of another patient.
        stretch: factor by which each axis is made longer.
        central: fraction of slabs that are cut where there are many places for lesions; the others are cut anywhere in
            the body, including the neck.
    """

    size: int = 192
    field_mm: tuple[float, float] = (0.8, 1.35)
    gap_mm: tuple[float, float] = (2.0, 5.0)
    planes: tuple[tuple[str, float], ...] = (("axial", 0.8), ("coronal", 0.1), ("sagittal", 0.1))
    tilt_degrees: float = 8.0
    turn_degrees: float = 15.0
    flip: float = 0.5
    warp_mm: tuple[float, float] = (0.0, 0.0)
    stretch: tuple[float, float] = (1.0, 1.0)
    central: float = 0.0

    def __post_init__(self) -> None:
        if unknown := sorted({name for name, _ in self.planes} - set(_PLANES)):
            raise ConfigurationError(f"planes={unknown!r}: unknown planes; choose from {', '.join(_PLANES)}")


class Slab(NamedTuple):
    """A slab.

    Attributes:
        images: (C, rows, columns, 3), float32: the slice in the middle, between its neighbours.
        masks: (M, rows, columns, 3), bool.
        spacing: mm between rows, columns, slices.
        plane: anatomical plane of the slab.
    """

    images: np.ndarray
    masks: np.ndarray
    spacing: tuple[float, float, float]
    plane: str


def cut_slab(
    volume: torch.Tensor,
    masks: int,
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
    settings: SlabSettings | None = None,
) -> Slab:
    """Cut a slab at a random position, in a random plane, rotation and size.

    Args:
        volume: (C + M, P, L, S), float32, axes towards posterior, left, superior: C images and M masks of 0 and 1. The
            first mask is the body; the second one, if there is one, the places for lesions.
        masks: number M of the masks.
        spacing: mm between voxels along P, L, S.
        rng: random generator.
        settings: see :class:`SlabSettings`; ``None`` for its defaults.

    >>> slab = cut_slab(torch.ones(2, 20, 20, 9), 1, (2, 2, 5), np.random.default_rng(0), SlabSettings(size=16))
    >>> slab.images.shape, slab.masks.dtype
    ((1, 16, 16, 3), dtype('bool'))
    """
    settings = settings or SlabSettings()
    names, chances = zip(*settings.planes, strict=True)
    plane = str(rng.choice(names, p=np.array(chances) / sum(chances)))
    axes = _PLANES[plane]
    steps = np.asarray(spacing, dtype=np.float64)
    shape = np.array(volume.shape[1:])
    body = volume[-masks].numpy()
    # Every fourth voxel is enough to find the box of the body, and faster.
    occupied = [
        np.flatnonzero(body[tuple(slice(None, None, 1 if a == axis else 4) for a in range(3))].max(others))
        for axis, others in enumerate(((1, 2), (0, 2), (0, 1)))
    ]
    low = np.array([o[0] if o.size else 0 for o in occupied]) * steps
    high = np.array([o[-1] + 1 if o.size else n for o, n in zip(occupied, shape, strict=True)]) * steps
    through = axes[2][0]
    center = (low + high) / 2
    center[through] = rng.uniform(low[through], high[through])
    if masks > 1 and settings.central and rng.uniform() < settings.central:
        others = tuple(axis for axis in range(3) if axis != through)
        area = (
            volume[1 - masks].numpy()[tuple(slice(None, None, 1 if a == through else 4) for a in range(3))].sum(others)
        )
        wide = np.flatnonzero(area > _WIDE * area.max())
        if wide.size:
            center[through] = rng.uniform(wide[0], wide[-1] + 1) * steps[through]
    field = max((high - low)[axes[0][0]], (high - low)[axes[1][0]]) * rng.uniform(*settings.field_mm)
    for axis, _ in axes[:2]:
        center[axis] += rng.uniform(-0.08, 0.08) * field

    basis = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(axes):
        basis[axis, column] = sign
    if rng.uniform() < settings.flip:
        basis[:, 1] *= -1
    tilt = np.deg2rad(settings.tilt_degrees)
    turn = np.deg2rad(settings.turn_degrees)
    basis = basis @ _rotation(rng.uniform(-tilt, tilt), rng.uniform(-tilt, tilt), rng.uniform(-turn, turn))

    pixel, gap = field / settings.size, float(rng.uniform(*settings.gap_mm))
    rows = (torch.arange(settings.size, dtype=torch.float32) - (settings.size - 1) / 2) * pixel
    offsets = torch.tensor([-gap, 0.0, gap])
    local = torch.stack(torch.meshgrid(rows, rows, offsets, indexing="ij"), dim=-1)
    if settings.stretch != (1.0, 1.0):
        basis = basis / rng.uniform(*settings.stretch, size=(3, 1))
    points = local @ torch.from_numpy(basis.T.astype(np.float32)) + torch.from_numpy(center.astype(np.float32))
    if settings.warp_mm[1] > 0:
        points = points + _displacement(points, float(rng.uniform(*settings.warp_mm)), rng)
    # Voxel centres are half a voxel away from the border of the volume; grid_sample expects the last axis first.
    grid = (2 * points / torch.from_numpy((steps * shape).astype(np.float32)) - 1).flip(-1).unsqueeze(0)
    sampled = F.grid_sample(volume[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0].numpy()
    count = len(volume) - masks
    return Slab(sampled[:count], sampled[count:] > 0.5, (float(pixel), float(pixel), gap), plane)


def extract_slab(slab: Slab, rng: np.random.Generator) -> Slab:
    """Imitate an extracted brain: keep the places for lesions within a smooth outline, and set the rest to 0.

    Args:
        slab: with masks of the body, of the places for lesions, and others.
        rng: random generator for the outline, which is a little larger or smaller than that of the places.

    Returns:
        The slab, with images scaled to the 99.5th percentile of the remaining voxels; the unchanged slab if no voxels
        would remain.

    >>> masks = np.stack([np.ones((8, 8, 3)), np.zeros((8, 8, 3)), np.zeros((8, 8, 3))]).astype(bool)
    >>> masks[1, 2:6, 2:6] = True
    >>> slab = Slab(np.full((1, 8, 8, 3), 0.5, np.float32), masks, (4.0, 4.0, 4.0), "axial")
    >>> left = extract_slab(slab, np.random.default_rng(0)).images
    >>> float(left.min()), float(left.max())
    (0.0, 1.0)
    """
    body, places, *others = slab.masks
    sigma = rng.uniform(2.0, 4.0) / slab.spacing[0]
    smooth = gaussian_filter(places.astype(np.float32), (sigma, sigma, 0))
    inside = body & (smooth > rng.uniform(0.1, 0.6))
    if not inside.any():
        return slab
    high = np.percentile(slab.images[:, inside], 99.5, axis=1).reshape(-1, 1, 1, 1)
    images = (slab.images * inside / np.maximum(high, 1e-3)).clip(0, 1).astype(np.float32)
    return slab._replace(images=images, masks=np.stack([inside, *(mask & inside for mask in (places, *others))]))


def _displacement(points: torch.Tensor, strength_mm: float, rng: np.random.Generator) -> torch.Tensor:
    """Smooth displacement at points (rows, columns, slices, 3) of a grid, both in mm."""
    rows, columns = points.shape[:2]
    # The field is smooth, so every eighth point is enough.
    lines = [torch.linspace(0, n - 1, max(2, n // 8 + 1)).round().long() for n in (rows, columns)]
    coords = points[lines[0]][:, lines[1]].movedim(-1, 0).numpy()
    fields = torch.from_numpy(np.stack([waves(coords, _WARP_WAVELENGTH_MM, rng, count=3) for _ in range(3)]))
    full = F.interpolate(fields.movedim(-1, 1), (rows, columns), mode="bilinear", align_corners=True)
    return full.movedim(1, -1).movedim(0, -1) * strength_mm


def _rotation(a: float, b: float, c: float) -> np.ndarray:
    ca, sa, cb, sb, cc, sc = np.cos(a), np.sin(a), np.cos(b), np.sin(b), np.cos(c), np.sin(c)
    first = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    second = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    third = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return first @ second @ third

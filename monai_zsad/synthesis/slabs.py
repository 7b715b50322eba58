"""Slabs: a slice with its neighbours, cut out of a volume at random, as training sees them."""

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

_WIDE = 0.25  # of the largest area of places for lesions
_WARP_WAVELENGTH_MM = (50.0, 150.0)  # shorter ones would fold tissue over itself

# Axes (row, column, through) of each plane in a volume of axes (posterior, left, superior), upright as one looks at it.
_PLANES = {
    "axial": ((0, 1), (1, 1), (2, 1)),
    "coronal": ((2, -1), (1, 1), (0, 1)),
    "sagittal": ((2, -1), (0, 1), (1, 1)),
}


@dataclass(frozen=True)
class SlabSettings:
    """How slabs are cut; pairs are the ends of ranges.

    Args:
        size: rows and columns in pixels.
        field_mm: side of the field of view, as a fraction of the body's larger side in the plane.
        gap_mm: distance between a slice and its neighbours.
        planes: relative frequency of each plane.
        tilt_degrees: rotation about the axes within the plane.
        turn_degrees: rotation within the plane.
        flip: fraction of slabs that are mirrored left to right.
        warp_mm: standard deviation of a smooth displacement, which makes another patient's anatomy of this one's.
        stretch: factor by which each axis is longer than it was.
        central: fraction of slabs that are cut where there are many places for lesions; the others anywhere in the
            body, the neck included.
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
            raise ConfigurationError(f"planes name {', '.join(unknown)}: choose from {', '.join(_PLANES)}")


class Slab(NamedTuple):
    """A slab.

    Attributes:
        images: (C, rows, columns, 3), float32: the slice in the middle, its neighbours beside it.
        masks: (M, rows, columns, 3), bool.
        spacing: mm between rows, columns, slices.
        plane: its plane.
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
    """Cut a slab at a random place, in a random plane, turn and size.

    Args:
        volume: (C + M, P, L, S), float32, axes towards posterior, left, superior: C images, which are 0 outside of it,
            and M masks of 0 and 1, the first of them the body.
        masks: M; the second, if there is one, of places for lesions.
        spacing: mm between voxels along P, L, S.
        rng: source of randomness.
        settings: how slabs are cut.

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
    # Every fourth voxel tells the body's box well enough, and quickly.
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
    # Voxel centres lie half a voxel from the volume's border; grid_sample wants the last axis first.
    grid = (2 * points / torch.from_numpy((steps * shape).astype(np.float32)) - 1).flip(-1).unsqueeze(0)
    sampled = F.grid_sample(volume[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0].numpy()
    count = len(volume) - masks
    return Slab(sampled[:count], sampled[count:] > 0.5, (float(pixel), float(pixel), gap), plane)


def extract_slab(slab: Slab, rng: np.random.Generator) -> Slab:
    """What is left of a head whose brain was extracted: the places for lesions in a smooth outline, 0 around them.

    Args:
        slab: with masks of the body, of places for lesions and of what is doubtful.
        rng: of the outline, which runs a little outside or inside of the places' own.

    Returns:
        The slab, its images scaled to the 99.5th percentile of what is left; as it was if nothing would be left.

    >>> masks = np.stack([np.ones((8, 8, 3)), np.zeros((8, 8, 3)), np.zeros((8, 8, 3))]).astype(bool)
    >>> masks[1, 2:6, 2:6] = True
    >>> slab = Slab(np.full((1, 8, 8, 3), 0.5, np.float32), masks, (4.0, 4.0, 4.0), "axial")
    >>> left = extract_slab(slab, np.random.default_rng(0)).images
    >>> float(left.min()), float(left.max())
    (0.0, 1.0)
    """
    body, places, doubtful = slab.masks
    sigma = rng.uniform(2.0, 4.0) / slab.spacing[0]
    smooth = gaussian_filter(places.astype(np.float32), (sigma, sigma, 0))
    inside = body & (smooth > rng.uniform(0.1, 0.6))
    if not inside.any():
        return slab
    high = np.percentile(slab.images[:, inside], 99.5, axis=1).reshape(-1, 1, 1, 1)
    images = (slab.images * inside / np.maximum(high, 1e-3)).clip(0, 1).astype(np.float32)
    return slab._replace(images=images, masks=np.stack([inside, places & inside, doubtful & inside]))


def _displacement(points: torch.Tensor, strength_mm: float, rng: np.random.Generator) -> torch.Tensor:
    """Smooth displacement at points (rows, columns, slices, 3) of a grid, both in mm."""
    rows, columns = points.shape[:2]
    # Known at every eighth point, as it bends over many of them.
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

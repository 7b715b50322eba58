"""Tools of the phantoms: grid, smooth noise, shapes as signed distances, painting with partial volume, acquisition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_zsad.errors import ConfigurationError
from monai_zsad.synthesis.phantoms.contrast import Contrast
from monai_zsad.synthesis.phantoms.model import Tissue

__all__ = ["Canvas", "Grid", "acquire", "check_grid", "draw_place", "ellipsoids", "smooth_noise"]

Grid = tuple[np.ndarray, np.ndarray, np.ndarray]
"""RAS coordinates in mm that broadcast to (X, Y, Z)."""


def check_grid(
    shape: Sequence[int], spacing: Sequence[float], seed: int
) -> tuple[tuple[int, int, int], np.ndarray, np.ndarray, Grid]:
    """Size, spacing, affine (RAS, mm, centred on the origin) and coordinates of a phantom's grid.

    Raises:
        ConfigurationError: if shape, spacing or seed cannot be used.
    """
    if len(shape) != 3 or any(int(n) != n or n < 1 for n in shape):
        raise ConfigurationError(f"shape is {tuple(shape)}: give three integers of 1 or more (voxels along X, Y, Z)")
    if len(spacing) != 3 or any(not np.isfinite(mm) or mm <= 0 for mm in spacing):
        raise ConfigurationError(f"spacing is {tuple(spacing)}: give three lengths in mm above 0 (along X, Y, Z)")
    if int(seed) != seed or seed < 0:
        raise ConfigurationError(f"seed is {seed}: give an integer of 0 or more")
    size, step = (int(shape[0]), int(shape[1]), int(shape[2])), np.asarray(spacing, dtype=np.float64)
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = -step * (np.asarray(size) - 1) / 2
    x, y, z = np.meshgrid(
        *(affine[i, 3] + step[i] * np.arange(size[i]) for i in range(3)), indexing="ij", sparse=True, copy=False
    )
    return size, step, affine, (x, y, z)


def smooth_noise(rng: np.random.Generator, size: Sequence[int], step: np.ndarray, scale_mm: float) -> np.ndarray:
    """Smooth random field of unit standard deviation with features of about ``scale_mm``; (X, Y, Z) float64."""
    coarse = [max(4, int(np.ceil(n * mm / scale_mm)) + 3) for n, mm in zip(size, step, strict=True)]
    field = rng.standard_normal(coarse)
    # Splines are separable, and one small matrix per axis is much faster than an interpolation in 3D.
    for n, c in zip(size, coarse, strict=True):
        field = np.tensordot(field, _spline_matrix(n, c), axes=(0, 1))
    return (field - field.mean()) / max(float(field.std()), 1e-12)


def _spline_matrix(n: int, coarse: int) -> np.ndarray:
    """(n, coarse): cubic spline interpolation of ``coarse`` values at ``n`` positions."""
    from scipy.ndimage import zoom

    columns = [zoom(unit, n / coarse, order=3, mode="nearest", grid_mode=True) for unit in np.eye(coarse)]
    return np.stack(columns, axis=1)


def ellipsoids(grid: Grid, parts: Sequence[tuple[Sequence[float], Sequence[float] | np.ndarray]]) -> np.ndarray:
    """Signed distance in mm, first order, to the nearest of some ellipsoids (centre, half axes); negative inside."""
    nearest: np.ndarray | None = None
    for center, axes in parts:
        radial = np.sqrt(sum(((g - c) / a) ** 2 for g, c, a in zip(grid, center, axes, strict=True)))
        distance = (radial - 1.0) * min(axes)
        nearest = distance if nearest is None else np.minimum(nearest, distance)
    if nearest is None:
        raise ValueError("parts is empty: name at least one ellipsoid")
    return nearest


class Canvas:
    """Noise-free values and tissue classes, painted one structure over the other.

    Args:
        size: voxels along X, Y, Z.
        contrast: contrast that gives the values.
        ground: tissue of the empty canvas.
        dtype: dtype of the values.

    Attributes:
        values: (X, Y, Z) in the contrast's unit.
        tissue: (X, Y, Z) uint8, :class:`Tissue`.
        texture: (X, Y, Z) field of unit standard deviation that gives the tissues their texture, or None.
    """

    def __init__(self, size: Sequence[int], contrast: Contrast, ground: Tissue, dtype: type[np.floating]) -> None:
        self.contrast = contrast
        self.values = np.full(size, contrast.means[ground], dtype=dtype)
        self.tissue = np.full(size, ground, dtype=np.uint8)
        self.texture: np.ndarray | None = None

    def paint(self, depth: np.ndarray, tissue: Tissue, box: tuple[slice, ...] = (slice(None),) * 3) -> None:
        """Paint ``tissue`` where ``depth`` (mm below its surface) is positive, with an edge of 1 mm.

        Args:
            depth: broadcasts to the shape of the box.
            tissue: what to paint.
            box: part of the grid to paint in.
        """
        mean, amplitude = self.contrast.means[tissue], self.contrast.texture[tissue]
        textured = self.texture is not None and amplitude > 0
        value = mean + amplitude * self.texture[box] if textured and self.texture is not None else mean
        values, classes = self.values[box], self.tissue[box]
        share = np.clip(depth + 0.5, 0.0, 1.0)
        values += share * (value - values)
        classes[np.broadcast_to(depth > 0, classes.shape)] = tissue

    def add_lesion(self, grid: Grid, center: Sequence[float], radius: float) -> np.ndarray:
        """Paint a ball of the contrast's lesion value; its mask (X, Y, Z) uint8 is returned. Tissues are kept."""
        distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, center, strict=True)))
        # The edge fades over 2 mm around the radius, like partial volume.
        share = np.clip((radius + 1.0 - distance) / 2.0, 0.0, 1.0)
        self.values += (share * (self.contrast.lesion - self.values)).astype(self.values.dtype)
        return (distance <= radius).astype(np.uint8)


def draw_place(
    rng: np.random.Generator, grid: Grid, depth: np.ndarray, wanted_mm: float, site: str
) -> tuple[float, float, float]:
    """A random voxel at a depth of at least ``wanted_mm``, or near the deepest voxel if no voxel is so deep.

    Raises:
        ConfigurationError: if the grid does not show the site.
    """
    deepest = float(depth.max())
    if deepest <= 0:
        raise ConfigurationError(
            f"the grid does not contain a {site} for a lesion: increase shape or spacing, or ask for no lesion"
        )
    candidates = np.flatnonzero(depth.ravel() >= min(wanted_mm, 0.9 * deepest))
    i, j, k = np.unravel_index(int(rng.choice(candidates)), depth.shape)
    x, y, z = grid
    return float(x[i, 0, 0]), float(y[0, j, 0]), float(z[0, 0, k])


def acquire(
    rng: np.random.Generator, values: np.ndarray, size: Sequence[int], step: np.ndarray, contrast: Contrast
) -> np.ndarray:
    """Blur noise-free values. MR also gets coil shading, Rician noise and values up to about 1000; CT gets noise.

    Returns:
        (X, Y, Z) float32, HU from -1024 for CT.
    """
    from scipy.ndimage import gaussian_filter

    sigma = contrast.blur
    blurred = gaussian_filter(values, sigma=[sigma, sigma, 0.6 * sigma], mode="nearest")
    if contrast.hounsfield:
        # The filtered back-projection correlates the noise of neighbours in the plane.
        grain = gaussian_filter(rng.standard_normal(tuple(size), dtype=np.float32), sigma=[0.7, 0.7, 0.0])
        return np.maximum(blurred + contrast.noise * grain / grain.std(), -1024.0).astype(np.float32)
    shaded = blurred * np.exp(contrast.shading * smooth_noise(rng, size, step, 120.0))
    real = shaded + contrast.noise * rng.standard_normal(tuple(size))
    imaginary = contrast.noise * rng.standard_normal(tuple(size))
    return (1000.0 * np.hypot(real, imaginary)).astype(np.float32)

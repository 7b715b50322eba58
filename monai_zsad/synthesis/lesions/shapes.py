"""Shapes of synthetic lesions, as signed distances in mm. A shape is therefore the same on any grid."""

from __future__ import annotations

import numpy as np

__all__ = ["ellipsoid", "irregular", "lobed", "random_rotation", "waves"]


def waves(
    coords: np.ndarray, wavelength_mm: tuple[float, float], rng: np.random.Generator, count: int = 6
) -> np.ndarray:
    """Smooth random field with a standard deviation of about 1: a sum of plane waves.

    Unlike filtered noise, the field is defined at every point, so distant slices belong to the same field.

    Args:
        coords: (D, ...) positions in mm, D of 2 or 3.
        wavelength_mm: shortest and longest wavelength.
        rng: random generator.
        count: number of waves.

    Returns:
        (...), float32.

    >>> waves(np.zeros((3, 4, 4, 4)), (5.0, 9.0), np.random.default_rng(0)).shape
    (4, 4, 4)
    """
    field = np.zeros(coords.shape[1:], dtype=np.float32)
    for _ in range(count):
        direction = rng.standard_normal(len(coords))
        direction *= 2 * np.pi / (np.linalg.norm(direction) * rng.uniform(*wavelength_mm))
        phase = np.tensordot(direction.astype(np.float32), coords.astype(np.float32, copy=False), axes=1)
        field += np.sin(phase + np.float32(rng.uniform(0, 2 * np.pi)))
    return field * np.float32(np.sqrt(2 / count))


def random_rotation(dimensions: int, rng: np.random.Generator) -> np.ndarray:
    """Random orthogonal matrix (D, D)."""
    q, r = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))
    return q * np.sign(np.diag(r))


def ellipsoid(coords: np.ndarray, radius_mm: float, rng: np.random.Generator, elongation: float = 1.5) -> np.ndarray:
    """Approximate distance to the surface of a randomly oriented ellipsoid around the origin, positive inside.

    Args:
        coords: (D, ...) positions in mm.
        radius_mm: geometric mean of the half axes.
        rng: random generator.
        elongation: largest factor by which a half axis differs from the radius, before all axes are scaled to the given
            mean.

    Returns:
        (...), float32, mm.

    >>> ellipsoid(np.zeros((2, 1, 1)), 3.0, np.random.default_rng(0), elongation=1.0)
    array([[3.]], dtype=float32)
    """
    factors = np.exp(rng.uniform(-np.log(elongation), np.log(elongation), len(coords)))
    axes = radius_mm * factors / np.prod(factors) ** (1 / len(coords))
    turned = np.tensordot(random_rotation(len(coords), rng).astype(np.float32), coords.astype(np.float32), axes=1)
    radial = np.sqrt(sum((c / np.float32(a)) ** 2 for c, a in zip(turned, axes, strict=True)))
    length = np.sqrt((turned**2).sum(0))
    # Measured along the ray through the point, which is exact for a sphere.
    return np.where(radial > 1e-3, (1 - radial) * length / np.maximum(radial, 1e-3), axes.min()).astype(np.float32)


def irregular(coords: np.ndarray, radius_mm: float, rng: np.random.Generator) -> np.ndarray:
    """An ellipsoid with an uneven surface; arguments and result as :func:`ellipsoid`."""
    wobble = rng.uniform(0.1, 0.3) * radius_mm
    return ellipsoid(coords, radius_mm, rng) + np.float32(wobble) * waves(
        coords, (1.2 * radius_mm, 3.5 * radius_mm), rng
    )


def lobed(coords: np.ndarray, radius_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Several irregular bodies grown together; arguments and result as :func:`ellipsoid`."""
    nearest = irregular(coords, 0.7 * radius_mm, rng)
    for _ in range(int(rng.integers(2, 5))):
        direction = rng.standard_normal(len(coords))
        offset = direction / np.linalg.norm(direction) * radius_mm * rng.uniform(0.45, 0.75)
        moved = coords - offset.reshape(-1, *[1] * (coords.ndim - 1)).astype(np.float32)
        nearest = np.maximum(nearest, irregular(moved, radius_mm * rng.uniform(0.4, 0.6), rng))
    return nearest

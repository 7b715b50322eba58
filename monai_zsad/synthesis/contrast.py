"""Random contrasts of real anatomy, so that a network does not learn one sequence only."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from monai_zsad.synthesis.lesions.shapes import waves

__all__ = ["degrade", "random_contrast", "vary_tissue"]


def random_contrast(
    channels: np.ndarray, rng: np.random.Generator, strength: float = 1.0, flair: float = 0.0
) -> np.ndarray:
    """One image in [0, 1] with a random contrast, from registered images of the same anatomy.

    A smooth function of the channels' values changes each tissue as a whole, as another sequence would. With T1 and T2
    (the first two channels) a part of the results looks like FLAIR: fluid is dark, grey matter is brighter than white
    matter. ``flair`` increases that part. Half of the added images have nearly uniform tissue, as after a correction of
    the coil's profile, so that lesions differ by little more than their brightness.

    Args:
        channels: (C, ...), float32 in about [0, 1].
        rng: random generator.
        strength: 0 keeps the contrast of a channel, apart from a mild gamma; 1 draws from all contrasts.
        flair: fraction that looks like FLAIR, independent of ``strength``; without effect for a single channel.

    Returns:
        (...), float32 in [0, 1].

    >>> random_contrast(np.linspace(0, 1, 8, dtype=np.float32)[None], np.random.default_rng(0)).shape
    (8,)
    """
    if flair and len(channels) > 1 and rng.uniform() < flair:
        t1, t2 = channels[0].clip(0, 1), channels[1].clip(0, 1)
        chosen = _flair_like(t1, t2, rng) * (t1 > 0.02)
        if rng.uniform() < 0.5:
            chosen = _flatten(chosen, (t1 > 0.02) & (t2 < 0.6), rng)
        return (chosen.clip(0, 1) ** np.exp(rng.uniform(-0.3, 0.3))).astype(np.float32)
    chosen = channels[int(rng.integers(len(channels)))].clip(0, 1)
    kind = rng.uniform()
    if kind < 0.45 * strength and len(channels) > 1:
        chosen = _flair_like(channels[0].clip(0, 1), channels[1].clip(0, 1), rng) * (channels[0] > 0.02)
    elif kind < 0.6 * strength and len(channels) > 1:
        weights = rng.uniform(-1, 1, len(channels)).astype(np.float32)
        mixed = np.tensordot(weights, channels, axes=1)
        inside = channels[0] > 0.02
        if inside.any():
            low, high = np.percentile(mixed[inside], (1, 99))
            chosen = np.where(inside, (mixed - low) / max(high - low, 1e-3), 0)
    elif kind < 0.75 * strength:
        knots = np.linspace(0, 1, 6)
        values = np.concatenate([[0.0], rng.uniform(0.05, 1, 5)])
        chosen = np.interp(chosen, knots, gaussian_filter(values, 0.5) * [0, 1, 1, 1, 1, 1]).astype(np.float32)
    gamma = np.exp(rng.uniform(-0.4, 0.4))
    return (chosen.clip(0, 1) ** gamma).astype(np.float32)


def _flair_like(t1: np.ndarray, t2: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    fluid = 1 / (1 + np.exp(-(t2 - rng.uniform(0.62, 0.8)) / rng.uniform(0.04, 0.1)))
    brain = t1[(t1 > 0.02) & (fluid < 0.5)]
    grey, white = np.percentile(brain, (30, 80)) if brain.size else (0.0, 1.0)
    share = ((white - t1) / max(white - grey, 0.05)).clip(-0.3, 1.2)
    level = rng.uniform(0.4, 0.7)
    soft = level + rng.uniform(0.02, 0.3) * share + rng.uniform(-0.1, 0.35) * (t2 - 0.4)
    return ((1 - rng.uniform(0.8, 1.0) * fluid) * soft).astype(np.float32)


def _flatten(image: np.ndarray, tissue: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The values of the tissue, moved towards their median."""
    if not tissue.any():
        return image
    level = np.median(image[tissue])
    return np.where(tissue, level + (image - level) * rng.uniform(0.4, 0.9), image)


def vary_tissue(
    image: np.ndarray,
    tissue: np.ndarray,
    spacing: tuple[float, ...],
    rng: np.random.Generator,
    strength: tuple[float, float] = (0.0, 0.12),
) -> np.ndarray:
    """Make the brightness of one tissue vary smoothly, as grey matter does on FLAIR: this is normal, not a lesion.

    Args:
        image: (rows, columns, slices), float32 in [0, 1].
        tissue: bool; the tissue is all voxels that are nearly as bright as a random voxel of this mask.
        spacing: mm along each axis.
        rng: random generator.
        strength: range of the standard deviation of the change.

    Returns:
        (rows, columns, slices), float32 in [0, 1].

    >>> varied = vary_tissue(np.eye(16, dtype=np.float32)[..., None], np.eye(16)[..., None] > 0, (4.0, 4.0, 3.0),
    ...                      np.random.default_rng(0), (0.1, 0.1))
    >>> float(varied[0, 1, 0]), bool((np.diagonal(varied) != 1).any())
    (0.0, True)
    """
    values = image[tissue]
    if not values.size:
        return image
    center, width = values[rng.integers(values.size)], rng.uniform(0.06, 0.15)
    member = np.exp(-(((image - center) / np.float32(width)) ** 2)) * tissue
    field = _coarse_waves(image.shape, spacing, (25.0, 80.0), rng, step=4)
    return (image + np.float32(rng.uniform(*strength)) * member * field).clip(0, 1).astype(np.float32)


def degrade(image: np.ndarray, rng: np.random.Generator, spacing: tuple[float, ...]) -> np.ndarray:
    """Imitate a scanner: shading, blur, noise and another scale, equal for all slices (the last axis).

    Args:
        image: (rows, columns, slices), float32 in about [0, 1].
        rng: random generator.
        spacing: mm along each axis.

    Returns:
        (rows, columns, slices), float32 in [0, 1].

    >>> degrade(np.full((32, 32, 3), 0.5, np.float32), np.random.default_rng(0), (1.0, 1.0, 3.0)).shape
    (32, 32, 3)
    """
    field = _coarse_waves(image.shape, spacing, (120.0, 400.0), rng, step=16, count=3)
    shaded = image * np.exp(np.float32(rng.uniform(0, 0.15)) * field)
    if rng.uniform() < 0.3:
        shaded = gaussian_filter(shaded, (*[rng.uniform(0.3, 0.9)] * 2, 0))
    level = rng.uniform(0, 0.03) if rng.uniform() < 0.8 else rng.uniform(0.03, 0.06)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    if rng.uniform() < 0.5:
        noise = gaussian_filter(noise, (0.6, 0.6, 0)) * 1.8
    noisy = np.abs(shaded + np.float32(level) * noise)
    return (noisy * np.float32(rng.uniform(0.8, 1.15))).clip(0, 1).astype(np.float32)


def _coarse_waves(
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    wavelength_mm: tuple[float, float],
    rng: np.random.Generator,
    step: int,
    count: int = 6,
) -> np.ndarray:
    """A smooth field (rows, columns, slices), computed at every ``step``-th pixel only."""
    rows, columns, slices = (np.arange(n, dtype=np.float32) * s for n, s in zip(shape, spacing, strict=True))
    coarse = np.stack(np.meshgrid(rows[::step], columns[::step], slices, indexing="ij"))
    field = waves(coarse, wavelength_mm, rng, count)
    full = np.repeat(np.repeat(field, step, 0), step, 1)[: shape[0], : shape[1]]
    return gaussian_filter(full, (step / 2, step / 2, 0))

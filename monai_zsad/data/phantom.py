"""A head that nobody owns: a synthetic scan with one lesion of known place, for demonstrations and tests."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["Phantom", "phantom_head", "write_sample_scan"]

_HALF_AXES = np.array([74.0, 94.0, 84.0])
_SCALP_MM, _SKULL_MM, _CSF_MM = 6.0, 7.0, 2.5
_FAT, _SKULL, _CSF, _GREY, _WHITE, _NUCLEI, _LESION = 0.72, 0.06, 0.10, 0.62, 0.50, 0.56, 0.95


class Phantom(NamedTuple):
    """A synthetic scan and its truth.

    Attributes:
        image: (X, Y, Z) float32, arbitrary units from 0 to about 1000.
        lesion: (X, Y, Z) uint8, 1 inside the lesion.
        affine: (4, 4) float64, voxel index to mm in RAS.
        center_mm: the lesion's centre in RAS mm; None without a lesion.
        radius_mm: the lesion's radius in mm; None without a lesion.
    """

    image: np.ndarray
    lesion: np.ndarray
    affine: np.ndarray
    center_mm: tuple[float, float, float] | None
    radius_mm: float | None


def phantom_head(
    shape: Sequence[int] = (256, 256, 40),
    spacing: Sequence[float] = (0.9, 0.9, 4.0),
    seed: int = 0,
    lesion: bool = True,
) -> Phantom:
    """Make a FLAIR-like head: scalp, skull, folded cortex, white matter, ventricles, and one bright lesion.

    Coil shading and Rician noise are added. The same arguments give the same head; ``lesion=False`` gives the same
    head without the lesion, up to the noise of its voxels. It is made to look plausible, not to be anatomy.

    Args:
        shape: voxels along X, Y, Z.
        spacing: mm along X, Y, Z. The head is about 150 x 190 x 170 mm and stands in the middle of the grid, whose
            axes are those of RAS.
        seed: any whole number of 0 or more; another seed is another head with another lesion.
        lesion: put one round lesion of 7 to 11 mm radius into the white matter.

    Example:
        >>> head = phantom_head((48, 48, 10), (4.5, 4.5, 16.0), seed=1)
        >>> head.image.shape, bool(head.lesion.any())
        ((48, 48, 10), True)
    """
    size, step = tuple(int(n) for n in shape), np.asarray(spacing, dtype=np.float64)
    rng = np.random.default_rng(seed)
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = -step * (np.asarray(size) - 1) / 2
    x, y, z = np.meshgrid(
        *(affine[i, 3] + step[i] * np.arange(size[i]) for i in range(3)), indexing="ij", sparse=True, copy=False
    )
    depth = _depth(x, y, z, 1.8 * _noise(rng, size, step, 70.0))
    tissue, white_depth = _brain(rng, size, step, (x, y, z), depth)

    radius = float(rng.uniform(7.0, 11.0))
    center = _place_lesion(rng, (x, y, z), white_depth, radius)
    distance = np.sqrt((x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2)
    inside = (distance <= radius) if lesion else np.zeros(size, dtype=bool)
    if lesion:
        # The edge fades over 2 mm around the radius, as partial volume does.
        share = np.clip((radius + 1.0 - distance) / 2.0, 0.0, 1.0)
        tissue = tissue + share * (_LESION - tissue)
    image = _acquire(rng, tissue, size, step)
    return Phantom(
        image=image,
        lesion=inside.astype(np.uint8),
        affine=affine,
        center_mm=(float(center[0]), float(center[1]), float(center[2])) if lesion else None,
        radius_mm=radius if lesion else None,
    )


def write_sample_scan(folder: str | os.PathLike[str], seed: int = 0) -> Path:
    """Write a phantom as a sample: ``sample_flair.nii.gz``, ``sample_flair_lesion.nii.gz``, ``sample_flair.json``.

    The JSON holds the lesion's centre (RAS, mm) and radius (mm) and says that the scan is synthetic.

    Args:
        folder: is made where it is missing; files of these names are replaced.
        seed: as for :func:`phantom_head`.

    Returns:
        The scan's path.

    Example:
        >>> import tempfile
        >>> write_sample_scan(tempfile.mkdtemp()).name  # doctest: +SKIP
        'sample_flair.nii.gz'
    """
    import nibabel

    head = phantom_head(seed=seed)
    target = Path(folder).expanduser()
    target.mkdir(parents=True, exist_ok=True)
    scan = target / "sample_flair.nii.gz"
    for path, array in ((scan, np.round(head.image).astype(np.int16)), (_beside(scan, "_lesion.nii.gz"), head.lesion)):
        image = nibabel.Nifti1Image(array, head.affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, path)
    truth = {
        "scan": scan.name,
        "lesion_mask": "sample_flair_lesion.nii.gz",
        "lesion_center_ras_mm": head.center_mm,
        "lesion_radius_mm": head.radius_mm,
        "seed": seed,
        "note": "synthetic phantom, no patient",
    }
    _beside(scan, ".json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    return scan


def _beside(scan: Path, ending: str) -> Path:
    return scan.with_name(scan.name.removesuffix(".nii.gz") + ending)


def _noise(rng: np.random.Generator, size: tuple[int, ...], step: np.ndarray, scale_mm: float) -> np.ndarray:
    """Smooth random field of unit standard deviation with features of about ``scale_mm``."""
    from scipy.ndimage import zoom

    coarse = tuple(max(4, int(np.ceil(n * mm / scale_mm)) + 3) for n, mm in zip(size, step, strict=True))
    field = rng.standard_normal(coarse)
    field = zoom(field, [n / c for n, c in zip(size, coarse, strict=True)], order=3, mode="nearest", grid_mode=True)
    return (field - field.mean()) / field.std()


def _depth(x: np.ndarray, y: np.ndarray, z: np.ndarray, bumps: np.ndarray) -> np.ndarray:
    """Depth below the skin in mm, first order; negative outside. The forehead is a little narrower than the back."""
    width = _HALF_AXES[0] * (1.0 - 0.0012 * y)
    radial = np.sqrt((x / width) ** 2 + (y / _HALF_AXES[1]) ** 2 + (z / _HALF_AXES[2]) ** 2)
    length = np.sqrt(x**2 + y**2 + z**2)
    return (1.0 - radial) * length / np.maximum(radial, 1e-6) + bumps


def _brain(
    rng: np.random.Generator,
    size: tuple[int, ...],
    step: np.ndarray,
    grid: tuple[np.ndarray, np.ndarray, np.ndarray],
    depth: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Noise-free intensities in [0, 1], and the distance in mm from white matter's border and the ventricles."""
    x, _, z = grid
    # Folds: the zero lines of a band-limited field are sulci.
    folds = _noise(rng, size, step, 13.0)
    below = depth - _SCALP_MM - _SKULL_MM
    pial = below - _CSF_MM
    # Narrowing with depth, so that most of them end 14 mm below the surface.
    from_sulcus = np.minimum(pial, 7.0 * np.abs(folds) - 1.1 + 0.5 * np.maximum(pial - 11.0, 0.0))
    fissure = np.abs(x + 1.2 * _noise(rng, size, step, 45.0)) - 1.3
    from_sulcus = np.minimum(from_sulcus, np.where((z > 12) | (pial < 24), fissure, np.inf))
    white = from_sulcus - 3.2

    ventricles = _ventricles(grid, _noise(rng, size, step, 22.0))
    nuclei = _ellipsoids(grid, [((s * 21, -2, 2), (8, 15, 14)) for s in (-1, 1)])
    tissue = np.full(size, _FAT)
    tissue = _over(tissue, -depth, 0.01)
    tissue = _over(tissue, depth - _SCALP_MM, _SKULL)
    tissue = _over(tissue, below, _CSF)
    texture = 0.015 * _noise(rng, size, step, 6.0)
    tissue = _over(tissue, from_sulcus, _GREY + texture)
    tissue = _over(tissue, white, _WHITE + texture)
    tissue = _over(tissue, np.where(white > 0, -nuclei, -1.0), _NUCLEI + texture)
    tissue = _over(tissue, np.where(pial > 8, -ventricles, -1.0), _CSF)
    return tissue, np.minimum(np.minimum(white, pial - 14.0), np.minimum(ventricles, nuclei))


def _over(tissue: np.ndarray, distance: np.ndarray, value: np.ndarray | float) -> np.ndarray:
    """Put ``value`` where the signed distance (mm) is positive, with an edge of 1 mm."""
    share = np.clip(distance + 0.5, 0.0, 1.0)
    return tissue + share * (value - tissue)


def _ellipsoids(
    grid: tuple[np.ndarray, np.ndarray, np.ndarray],
    parts: Sequence[tuple[tuple[float, float, float], tuple[float, float, float]]],
) -> np.ndarray:
    """Signed distance in mm, first order, to the nearest of some ellipsoids; negative inside."""
    nearest: np.ndarray | None = None
    for center, axes in parts:
        radial = np.sqrt(sum(((g - c) / a) ** 2 for g, c, a in zip(grid, center, axes, strict=True)))
        distance = (radial - 1.0) * min(axes)
        nearest = distance if nearest is None else np.minimum(nearest, distance)
    if nearest is None:
        raise ValueError("parts is empty: name at least one ellipsoid")
    return nearest


def _ventricles(grid: tuple[np.ndarray, np.ndarray, np.ndarray], bumps: np.ndarray) -> np.ndarray:
    """Signed distance to frontal horns, bodies, trigones and third ventricle; negative inside."""
    parts = []
    for side in (-1.0, 1.0):
        parts += [
            ((side * 9.0, 24.0, 12.0), (4.0, 13.0, 7.0)),
            ((side * 10.0, 2.0, 20.0), (4.5, 22.0, 6.0)),
            ((side * 20.0, -30.0, 12.0), (5.5, 12.0, 9.0)),
            ((side * 15.0, -18.0, 17.0), (5.0, 12.0, 6.0)),
        ]
    parts.append(((0.0, -4.0, 0.0), (2.0, 12.0, 9.0)))
    return _ellipsoids(grid, parts) + 0.5 * bumps


def _place_lesion(
    rng: np.random.Generator,
    grid: tuple[np.ndarray, np.ndarray, np.ndarray],
    white_depth: np.ndarray,
    radius: float,
) -> tuple[float, float, float]:
    """A voxel centre deep in white matter, away from the poles, drawn at random."""
    x, y, z = grid
    score = np.where(np.abs(z) < 45.0, white_depth, -np.inf)
    wanted = min(0.5 * radius, 0.9 * float(score.max()))
    candidates = np.flatnonzero(score.ravel() >= wanted)
    i, j, k = np.unravel_index(int(rng.choice(candidates)), score.shape)
    return float(x[i, 0, 0]), float(y[0, j, 0]), float(z[0, 0, k])


def _acquire(rng: np.random.Generator, tissue: np.ndarray, size: tuple[int, ...], step: np.ndarray) -> np.ndarray:
    """Blur of a voxel, coil shading of about 15 %, Rician noise; scaled to about 1000."""
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(tissue, sigma=[0.5, 0.5, 0.3], mode="nearest")
    shaded = blurred * np.exp(0.06 * _noise(rng, size, step, 120.0))
    real = shaded + 0.018 * rng.standard_normal(size)
    imaginary = 0.018 * rng.standard_normal(size)
    return (1000.0 * np.hypot(real, imaginary)).astype(np.float32)

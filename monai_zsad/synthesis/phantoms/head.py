"""A synthetic head: scalp, skull, folded cortex, white matter, ventricles, and one lesion at a known position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_zsad.synthesis.phantoms.canvas import Canvas, Grid, acquire, check_grid, draw_place, ellipsoids, smooth_noise
from monai_zsad.synthesis.phantoms.contrast import choose_contrast
from monai_zsad.synthesis.phantoms.model import Phantom, Tissue

__all__ = ["phantom_head"]

_HALF_AXES = (74.0, 94.0, 84.0)
_SCALP_MM, _SKULL_MM, _TABLE_MM, _CSF_MM = 6.0, 7.0, 2.2, 2.5


def phantom_head(
    shape: Sequence[int] = (256, 256, 40),
    spacing: Sequence[float] = (0.9, 0.9, 4.0),
    seed: int = 0,
    lesion: bool = True,
    contrast: str = "flair",
) -> Phantom:
    """Make a head with one lesion, as MR, as CT or with a random contrast.

    The same arguments give the same head. With ``lesion=False``, the head is the same except for the lesion and the
    noise in its voxels. Another ``contrast`` gives the same anatomy and the same lesion with other values. The head
    looks plausible, but it is neither an atlas of anatomy nor the scan of a patient.

    Args:
        shape: voxels along X, Y, Z.
        spacing: mm along X, Y, Z. The head is about 150 x 190 x 170 mm and lies in the middle of the grid. The grid's
            axes are those of RAS.
        seed: any whole number of 0 or more; another seed gives another head with another lesion.
        lesion: put one round lesion of 7 to 11 mm radius into the white matter: bright in ``"flair"`` and ``"t2"``,
            dark in ``"t1"``, in ``"ct"`` like a hemorrhage (70 HU) or hypodense (12 HU), as the seed decides.
        contrast: ``"flair"``, ``"t1"``, ``"t2"`` (coil shading, Rician noise), ``"ct"`` (HU), or ``"random"``: mean and
            texture of every tissue are drawn at random, independently of any sequence.

    Returns:
        The image and its lesion, on one grid.

    Raises:
        ConfigurationError: if an argument cannot be used, or the grid shows no white matter for the lesion.

    Example:
        >>> head = phantom_head((48, 48, 10), (4.5, 4.5, 16.0), seed=1)
        >>> head.image.shape, bool(head.lesion.any()), head.lesion_kind
        ((48, 48, 10), True, 'hyperintense')
    """
    size, step, affine, grid = check_grid(shape, spacing, seed)
    look = choose_contrast("head", contrast, "white matter", seed)
    rng = np.random.default_rng(seed)
    depth = _depth(grid, 1.8 * smooth_noise(rng, size, step, 70.0))
    canvas = Canvas(size, look, Tissue.FAT, np.float64)
    white_depth = _paint(canvas, rng, size, step, grid, depth)

    radius = float(rng.uniform(7.0, 11.0))
    away_from_poles = np.where(np.abs(grid[2]) < 45.0, white_depth, -np.inf)
    center, mask = None, np.zeros(size, dtype=np.uint8)
    # Drawn also without a lesion, so that the following noise is the same.
    if lesion or away_from_poles.max() > 0:
        center = draw_place(rng, grid, away_from_poles, 0.5 * radius, "white matter")
    if lesion and center is not None:
        mask = canvas.add_lesion(grid, center, radius)
    return Phantom(
        image=acquire(rng, canvas.values, size, step, look),
        lesion=mask,
        affine=affine,
        center_mm=center if lesion else None,
        radius_mm=radius if lesion else None,
        tissue=canvas.tissue,
        anatomy="head",
        contrast=contrast,
        lesion_kind=look.kind if lesion else None,
        seed=int(seed),
    )


def _depth(grid: Grid, bumps: np.ndarray) -> np.ndarray:
    """Depth below the skin in mm, first order; negative outside. The forehead is a little narrower than the back."""
    x, y, z = grid
    width = _HALF_AXES[0] * (1.0 - 0.0012 * y)
    radial = np.sqrt((x / width) ** 2 + (y / _HALF_AXES[1]) ** 2 + (z / _HALF_AXES[2]) ** 2)
    length = np.sqrt(x**2 + y**2 + z**2)
    return (1.0 - radial) * length / np.maximum(radial, 1e-6) + bumps


def _paint(
    canvas: Canvas,
    rng: np.random.Generator,
    size: tuple[int, int, int],
    step: np.ndarray,
    grid: Grid,
    depth: np.ndarray,
) -> np.ndarray:
    """Paint the anatomy; returns the distance in mm from white matter's border and the ventricles."""
    x, _, z = grid
    # Folds: the zero lines of a band-limited field are sulci.
    folds = smooth_noise(rng, size, step, 13.0)
    below = depth - _SCALP_MM - _SKULL_MM
    pial = below - _CSF_MM
    # The sulci become narrower with depth, so that most of them end 14 mm below the surface.
    from_sulcus = np.minimum(pial, 7.0 * np.abs(folds) - 1.1 + 0.5 * np.maximum(pial - 11.0, 0.0))
    fissure = np.abs(x + 1.2 * smooth_noise(rng, size, step, 45.0)) - 1.3
    from_sulcus = np.minimum(from_sulcus, np.where((z > 12) | (pial < 24), fissure, np.inf))
    white = from_sulcus - 3.2

    ventricles = _ventricles(grid, smooth_noise(rng, size, step, 22.0))
    nuclei = ellipsoids(grid, [((s * 21, -2, 2), (8, 15, 14)) for s in (-1, 1)])
    canvas.paint(-depth, Tissue.AIR)
    canvas.paint(depth - _SCALP_MM, Tissue.BONE)
    canvas.paint(depth - _SCALP_MM - _TABLE_MM, Tissue.MARROW)
    canvas.paint(below + _TABLE_MM, Tissue.BONE)
    canvas.paint(below, Tissue.CSF)
    canvas.texture = smooth_noise(rng, size, step, 6.0)
    canvas.paint(from_sulcus, Tissue.GREY)
    canvas.paint(white, Tissue.WHITE)
    canvas.paint(np.where(white > 0, -nuclei, -1.0), Tissue.NUCLEI)
    canvas.paint(np.where(pial > 8, -ventricles, -1.0), Tissue.CSF)
    return np.minimum(np.minimum(white, pial - 14.0), np.minimum(ventricles, nuclei))


def _ventricles(grid: Grid, bumps: np.ndarray) -> np.ndarray:
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
    return ellipsoids(grid, parts) + 0.5 * bumps

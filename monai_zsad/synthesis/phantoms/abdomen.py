"""A synthetic abdomen: body wall, spine, liver, spleen, kidneys, great vessels, stomach and bowel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monai_zsad.errors import ConfigurationError
from monai_zsad.synthesis.phantoms.bowel import paint_bowel, paint_pancreas, paint_stomach
from monai_zsad.synthesis.phantoms.canvas import Canvas, Grid, acquire, check_grid, draw_place, ellipsoids, smooth_noise
from monai_zsad.synthesis.phantoms.contrast import choose_contrast
from monai_zsad.synthesis.phantoms.model import Phantom, Tissue
from monai_zsad.synthesis.phantoms.trunk import BEND_MM, Body, draw_body, paint_spine, paint_thorax, paint_wall

__all__ = ["phantom_abdomen"]

_SITES = ("liver", "kidney")
_RADIUS_MM = {"liver": (8.0, 16.0), "kidney": (7.0, 12.0)}


def phantom_abdomen(
    shape: Sequence[int] = (256, 256, 40),
    spacing: Sequence[float] = (1.6, 1.6, 5.0),
    seed: int = 0,
    lesion: str | None = "liver",
    contrast: str = "ct",
) -> Phantom:
    """Make an upper abdomen with at most one lesion, as MR, as CT or with a random contrast.

    Sizes and positions of the organs, the thickness of fat and muscle, the course of the bowel and a smooth deformation
    are drawn from the seed. The same arguments give the same abdomen. Another ``contrast`` gives the same anatomy and
    lesion with other values. The abdomen looks plausible, but it is neither an atlas of anatomy nor the scan of a
    patient.

    Args:
        shape: voxels along X, Y, Z.
        spacing: mm along X, Y, Z. The body is about 340 x 230 mm across and has no end along Z; the origin, in the
            middle of the grid, lies at the height of the kidneys' upper part. The grid's axes are those of RAS.
        seed: any whole number of 0 or more.
        lesion: ``"liver"``: a round lesion of 8 to 16 mm radius, dark in ``"ct"`` and ``"t1"``, bright in ``"t2"``;
            ``"kidney"``: a round lesion of 7 to 12 mm radius, in ``"ct"`` like a cyst (10 HU) or a poorly enhancing
            mass (75 HU); None: no lesion.
        contrast: ``"ct"`` (HU, portal venous phase), ``"t1"``, ``"t2"``, or ``"random"`` as in :func:`phantom_head`.

    Returns:
        The image and its lesion, on one grid.

    Raises:
        ConfigurationError: if an argument cannot be used, or the grid does not show the organ of the lesion.

    Example:
        >>> abdomen = phantom_abdomen((64, 48, 10), (6.0, 6.0, 20.0), seed=1)
        >>> abdomen.image.shape, abdomen.lesion_kind
        ((64, 48, 10), 'hypodense')
    """
    if lesion is not None and lesion not in _SITES:
        raise ConfigurationError(f"lesion={lesion!r}: give 'liver', 'kidney' or None")
    size, step, affine, straight = check_grid(shape, spacing, seed)
    look = choose_contrast("abdomen", contrast, lesion or "liver", seed)
    rng = np.random.default_rng(seed)
    shift = [g + np.clip(4.5 * smooth_noise(rng, size, step, 120.0), -BEND_MM, BEND_MM) for g in straight]
    grid: Grid = (shift[0].astype(np.float32), shift[1].astype(np.float32), shift[2].astype(np.float32))
    canvas = Canvas(size, look, Tissue.AIR, np.float32)
    canvas.texture = smooth_noise(rng, size, step, 7.0).astype(np.float32)
    body = draw_body(rng, grid)

    paint_wall(canvas, grid, body)
    paint_thorax(canvas, grid, body)
    paint_spine(canvas, grid, body, rng)
    _paint_mesentery(canvas, rng, size, step, body)
    paint_stomach(canvas, grid, body, rng)
    paint_pancreas(canvas, grid, body, rng)
    liver = _paint_liver(canvas, rng, size, step, grid, body)
    _paint_spleen(canvas, rng, grid, body)
    kidney = _paint_kidneys(canvas, rng, size, step, grid, body)
    _paint_great_vessels(canvas, grid, body, rng)
    paint_bowel(canvas, grid, body, rng)

    center, radius, mask = None, None, np.zeros(size, dtype=np.uint8)
    # A separate random generator, so that noise and anatomy are the same without a lesion.
    place = np.random.default_rng([seed, 2])
    if lesion is not None:
        radius = float(place.uniform(*_RADIUS_MM[lesion]))
        # The lesion must not lie in structures that were painted over the organ later.
        classes = (Tissue.LIVER,) if lesion == "liver" else (Tissue.KIDNEY_CORTEX, Tissue.KIDNEY_MEDULLA)
        depth = np.where(np.isin(canvas.tissue, classes), liver if lesion == "liver" else kidney, -1.0)
        center = draw_place(place, straight, depth, 0.9 * radius if lesion == "liver" else 4.0, lesion)
        mask = canvas.add_lesion(straight, center, radius)
    return Phantom(
        image=acquire(rng, canvas.values, size, step, look),
        lesion=mask,
        affine=affine,
        center_mm=center,
        radius_mm=radius,
        tissue=canvas.tissue,
        anatomy="abdomen",
        contrast=contrast,
        lesion_kind=look.kind if lesion is not None else None,
        seed=int(seed),
    )


def _tubes(
    rng: np.random.Generator, size: tuple[int, int, int], step: np.ndarray, scale_mm: float, radius_mm: float
) -> np.ndarray:
    """Depth in mm inside branching tubes: where two smooth fields are both near zero."""
    first, second = (smooth_noise(rng, size, step, scale_mm).astype(np.float32) for _ in range(2))
    return radius_mm - 0.33 * scale_mm * np.hypot(first, second)


def _paint_mesentery(
    canvas: Canvas, rng: np.random.Generator, size: tuple[int, int, int], step: np.ndarray, body: Body
) -> None:
    vessels = np.minimum(_tubes(rng, size, step, 26.0, 1.8), np.minimum(body.inner - 8.0, body.below_diaphragm - 5.0))
    canvas.paint(vessels, Tissue.VESSEL)


def _paint_liver(
    canvas: Canvas,
    rng: np.random.Generator,
    size: tuple[int, int, int],
    step: np.ndarray,
    grid: Grid,
    body: Body,
) -> np.ndarray:
    """Liver with vessels, and the gallbladder below it; returns the depth in mm below the liver's surface."""
    low = float(rng.uniform(-8.0, 12.0))
    scale = float(rng.uniform(0.92, 1.08))
    back, wide = body.spine_y, body.half_width
    right = ((0.48 * wide, back + 42.0, 32.0 + low), (0.52 * wide * scale, 82.0 * scale, 88.0 * scale))
    left = ((0.02 * wide, back + 82.0, 58.0 + low), (62.0 * scale, 30.0 * scale, 40.0 * scale))
    bumps = 2.5 * smooth_noise(rng, size, step, 40.0).astype(np.float32)
    depth = -ellipsoids(grid, [right, left]) + bumps
    # The surface towards stomach and kidney is concave.
    hollow = ellipsoids(grid, [((0.0, back + 12.0, -5.0 + low), (48.0, 44.0, 70.0))])
    depth = np.minimum(np.minimum(depth, hollow), np.minimum(body.inner - 2.0, body.below_diaphragm - 3.0))
    canvas.paint(depth, Tissue.LIVER)
    vessels = np.minimum(_tubes(rng, size, step, 52.0, 3.2), depth - 7.0)
    canvas.paint(vessels, Tissue.VESSEL)
    tilt = rng.uniform(-4.0, 4.0, 3)
    bladder = ((0.33 * wide + tilt[0], back + 84.0 + tilt[1], -22.0 + low + tilt[2]), (13.0, 20.0, 26.0))
    gallbladder = np.minimum(-ellipsoids(grid, [bladder]), body.inner - 4.0)
    canvas.paint(gallbladder, Tissue.FLUID)
    return depth


def _paint_spleen(canvas: Canvas, rng: np.random.Generator, grid: Grid, body: Body) -> None:
    x, y, z = -body.half_width + 36.0, body.spine_y + rng.uniform(0.0, 14.0), 36.0 + rng.uniform(-12.0, 12.0)
    axes = np.array([38.0, 50.0, 54.0]) * rng.uniform(0.85, 1.15)
    depth = -ellipsoids(grid, [((x, y, z), axes)])
    hilum = ellipsoids(grid, [((x + 46.0, y + 12.0, z - 4.0), axes * [0.8, 0.95, 1.05])])
    depth = np.minimum(np.minimum(depth, hilum), np.minimum(body.inner - 3.0, body.below_diaphragm - 4.0))
    canvas.paint(depth, Tissue.SPLEEN)


def _paint_kidneys(
    canvas: Canvas,
    rng: np.random.Generator,
    size: tuple[int, int, int],
    step: np.ndarray,
    grid: Grid,
    body: Body,
) -> np.ndarray:
    """Both kidneys in their fat, with pyramids and sinus; returns the depth in mm below the nearer one's surface."""
    x, y, z = grid
    pyramids = smooth_noise(rng, size, step, 11.0).astype(np.float32)
    nearest: np.ndarray | None = None
    for side, height in ((1.0, -22.0), (-1.0, -10.0)):
        middle = height + float(rng.uniform(-8.0, 8.0))
        axes = np.array([26.0, 27.0, 54.0]) * rng.uniform(0.9, 1.1)
        # The upper pole lies nearer to the spine and further back.
        across = side * x - 62.0 + 0.22 * (z - middle)
        along = y - body.spine_y + 2.0 + 0.12 * (z - middle)
        local: Grid = (across, along, z - middle)
        depth = -ellipsoids(local, [((0.0, 0.0, 0.0), axes)])
        sinus = -ellipsoids(local, [((-15.0, 6.0, 0.0), (18.0, 9.0, 27.0))])
        canvas.paint(np.minimum(depth + 6.0, body.inner - 1.0), Tissue.FAT)
        depth = np.minimum(depth, body.inner - 4.0)
        canvas.paint(depth, Tissue.KIDNEY_CORTEX)
        canvas.paint(np.minimum(np.minimum(depth - 7.0, 4.0 * pyramids + 2.0), -sinus - 1.0), Tissue.KIDNEY_MEDULLA)
        canvas.paint(np.minimum(sinus, depth + 3.0), Tissue.FAT)
        pelvis = -ellipsoids(local, [((-17.0, 7.0, 0.0), (14.0, 3.5, 9.0))])
        canvas.paint(pelvis, Tissue.VESSEL)
        inside = np.minimum(depth, -sinus)
        nearest = inside if nearest is None else np.maximum(nearest, inside)
    return np.asarray(nearest)


def _paint_great_vessels(canvas: Canvas, grid: Grid, body: Body, rng: np.random.Generator) -> None:
    x, y, z = grid
    front = body.spine_y + 17.0
    aorta = float(rng.uniform(8.5, 11.5))
    bend = 3.0 * np.sin(z / 60.0 + float(rng.uniform(0.0, 6.0)))
    canvas.paint(aorta - np.hypot(x + 9.0 - bend, y - front - aorta - 1.0), Tissue.VESSEL)
    cava = (np.hypot((x - 20.0 + bend) / 12.0, (y - front - 9.0 - np.maximum(z, 0.0) * 0.12) / 8.5) - 1.0) * 8.5
    canvas.paint(np.minimum(-cava, body.below_diaphragm), Tissue.VESSEL)
    # Portal vein: from behind the pancreas up into the liver.
    share = np.clip((z + 5.0) / 40.0, 0.0, 1.0)
    portal = np.hypot(x - 6.0 - 34.0 * share, y - front - 30.0 - 6.0 * share)
    along = np.minimum(z + 14.0, 40.0 - z)
    canvas.paint(np.minimum(7.0 - 0.75 * portal, along), Tissue.VESSEL)

"""Wall, skeleton and thorax of the abdominal phantom."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monai_zsad.synthesis.phantoms.canvas import Canvas, Grid, ellipsoids
from monai_zsad.synthesis.phantoms.model import Tissue

__all__ = ["BEND_MM", "Body", "draw_body", "paint_spine", "paint_thorax", "paint_wall"]

BEND_MM = 12.0
"""Largest displacement of the smooth deformation along each axis."""

_VERTEBRA_MM, _DISC_MM = 36.0, 9.0


class Body(NamedTuple):
    """Measures from which the organs are placed; fields in mm that broadcast to the grid.

    Attributes:
        depth: below the skin, negative outside.
        muscle: below the inner border of subcutaneous fat.
        inner: below the inner surface of the muscular wall.
        below_diaphragm: downwards from the diaphragm, negative above.
        spine_y: position of the middle of the vertebral bodies, from front to back.
        half_width: from the middle to the inner surface of the wall at the side.
        front_y: inner surface of the wall in front.
    """

    depth: np.ndarray
    muscle: np.ndarray
    inner: np.ndarray
    below_diaphragm: np.ndarray
    spine_y: float
    half_width: float
    front_y: float


def draw_body(rng: np.random.Generator, grid: Grid) -> Body:
    """Draw the outline, the thickness of fat and muscle, and the diaphragm."""
    x, y, z = grid
    fat = float(rng.uniform(9.0, 24.0))
    wide, deep = float(rng.uniform(143.0, 160.0)) + 0.6 * fat, float(rng.uniform(102.0, 118.0)) + 0.5 * fat
    # The body is flatter behind, because the patient lies on the back.
    ahead = np.where(y > 0, y / deep, y / (0.94 * deep))
    radial = (np.abs(x / wide) ** 2.35 + np.abs(ahead) ** 2.35) ** (1.0 / 2.35)
    depth = (1.0 - radial) * np.hypot(x, y) / np.maximum(radial, 1e-3)
    depth = np.where(radial < 1e-3, min(wide, deep), depth)
    angle = np.arctan2(y, x)
    muscle = depth - fat * (1.0 + 0.25 * np.cos(2.0 * angle) - 0.15 * np.sin(angle))
    # Two straight muscles beside a thin line in front.
    straight = 5.0 * np.exp(-(((np.abs(x) - 32.0) / 22.0) ** 2)) - 6.0 * np.exp(-((x / 6.0) ** 2))
    wall = 11.0 + np.where(y > 0, straight, 0.0)
    inner = muscle - wall
    spine_y = -0.94 * deep + fat * 0.9 + 66.0
    top = float(rng.uniform(66.0, 88.0))
    # Two domes, lower in the middle, and a deep recess along the wall.
    dome = top + 8.0 * np.tanh(x / 60.0) - 10.0 * np.exp(-((x / 32.0) ** 2))
    deeper = 12.0 * (1.0 - np.tanh((y - spine_y - 20.0) / 25.0))
    recess = (20.0 + deeper) * np.exp(-np.maximum(inner, 0.0) / 14.0) + 22.0 * np.exp(-np.maximum(inner, 0.0) / 40.0)
    return Body(
        depth=depth,
        muscle=muscle,
        inner=inner,
        below_diaphragm=dome - recess - z,
        spine_y=spine_y,
        half_width=wide - 1.25 * fat - 11.0,
        front_y=deep - 0.6 * fat - 13.0,
    )


def paint_wall(canvas: Canvas, grid: Grid, body: Body) -> None:
    """Skin, subcutaneous fat, muscles, ribs, and the fat of the cavity."""
    x, y, z = grid
    canvas.paint(body.depth, Tissue.MUSCLE)
    canvas.paint(body.depth - 1.8, Tissue.FAT)
    canvas.paint(body.muscle, Tissue.MUSCLE)
    canvas.paint(body.inner, Tissue.FAT)
    backwards = y - body.spine_y
    # Ribs run down towards the front; below the costal arch there are none.
    phase = (z + 0.55 * backwards + 6.0) % 27.0 - 13.5
    middle = body.muscle - 5.5
    rib = (1.0 - np.hypot(phase / 6.0, middle / 3.8)) * 3.8
    above_arch = z - 0.95 * np.maximum(backwards, -30.0) + 38.0
    limits = np.minimum(np.minimum(above_arch, np.abs(x) - 42.0), body.front_y - y + 2.0)
    rib = np.minimum(rib, limits)
    canvas.paint(rib, Tissue.BONE)
    canvas.paint(rib - 1.4, Tissue.MARROW)


def paint_spine(canvas: Canvas, grid: Grid, body: Body, rng: np.random.Generator) -> None:
    """Muscles of the back, psoas, vertebrae with discs and arches, canal and cord."""
    x, y, z = grid
    side = np.abs(x)
    back = y - body.spine_y
    erector = (1.0 - np.hypot((side - 27.0) / 27.0, (back + 42.0) / 25.0)) * 25.0
    canvas.paint(np.minimum(erector, body.muscle), Tissue.MUSCLE)
    square = (1.0 - np.hypot((side - 66.0) / 20.0, (back + 34.0) / 9.0)) * 9.0
    canvas.paint(np.minimum(square, 20.0 - z), Tissue.MUSCLE)
    bulk = np.clip(6.0 + 0.15 * (25.0 - z), 4.0, 24.0)
    psoas = bulk - np.hypot(side - 27.0 - 0.5 * bulk, 0.85 * (back + 3.0))
    canvas.paint(np.minimum(psoas, 35.0 - z), Tissue.MUSCLE)
    crus = 7.0 - np.hypot(side - 14.0, 0.5 * (back - 20.0))
    canvas.paint(np.minimum(crus, np.minimum(z + 15.0, body.below_diaphragm)), Tissue.MUSCLE)

    phase = (z + float(rng.uniform(0.0, _VERTEBRA_MM))) % _VERTEBRA_MM
    # Above 0 within a vertebra, below within a disc.
    in_bone = 0.5 * (_VERTEBRA_MM - _DISC_MM) - np.abs(phase - 0.5 * _VERTEBRA_MM)
    waist = 1.0 - 0.08 * np.clip(in_bone / 13.0, 0.0, 1.0)
    vertebra = (waist - np.hypot(x / 24.0, back / 17.5)) * 17.5
    # The side towards the canal is concave.
    vertebra = np.minimum(vertebra, np.hypot(x / 1.4, back + 27.0) - 10.5)
    canvas.paint(vertebra, Tissue.DISC)
    bone = np.minimum(vertebra, in_bone)
    canvas.paint(bone, Tissue.BONE)
    canvas.paint(bone - 1.5, Tissue.MARROW)
    canal = np.hypot(x / 1.25, back + 26.0)
    pedicle = np.minimum(5.0 - np.abs(side - 14.0), np.minimum(8.0 - np.abs(back + 20.0), in_bone - 5.0))
    lamina = np.minimum(3.2 - np.abs(canal - 12.0), np.minimum(-22.0 - back, in_bone - 2.0))
    spinous = (1.0 - np.hypot(x / 4.0, (back + 48.0) / 15.0)) * 4.0
    transverse = (1.0 - np.hypot((side - 32.0) / 18.0, (back + 27.0 + 0.15 * (side - 30.0)) / 5.0)) * 5.0
    arch = np.maximum(np.maximum(pedicle, lamina), np.minimum(np.maximum(spinous, transverse), in_bone - 4.0))
    arch = np.minimum(arch, body.muscle - 1.0)
    canvas.paint(arch, Tissue.BONE)
    canvas.paint(arch - 1.8, Tissue.MARROW)
    canvas.paint(9.0 - canal, Tissue.CSF)
    canvas.paint(np.minimum(4.8 - np.hypot(x, back + 26.0), z + 20.0), Tissue.GREY)


def paint_thorax(canvas: Canvas, grid: Grid, body: Body) -> None:
    """Structures above the diaphragm: lung bases, heart, mediastinal fat."""
    x, y, _ = grid
    above = np.minimum(-body.below_diaphragm - 1.5, body.inner)
    middle = body.spine_y
    heart = -ellipsoids(
        grid,
        [((-18.0, middle + 76.0, 108.0), (62.0, 44.0, 44.0)), ((14.0, middle + 60.0, 116.0), (40.0, 36.0, 42.0))],
    )
    heart = np.minimum(heart, above)
    mediastinum = np.hypot(x, 0.6 * (y - middle - 30.0)) - 24.0
    lung = np.minimum(np.minimum(above, mediastinum), -heart - 3.0)
    canvas.paint(np.minimum(lung, body.inner - 1.0), Tissue.LUNG)
    canvas.paint(heart, Tissue.MUSCLE)
    canvas.paint(heart - 9.0, Tissue.VESSEL)

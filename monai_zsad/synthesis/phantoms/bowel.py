"""Hollow organs of the abdominal phantom, and the pancreas: tubes along random courses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from monai_zsad.synthesis.phantoms.canvas import Canvas, Grid, ellipsoids
from monai_zsad.synthesis.phantoms.model import Tissue
from monai_zsad.synthesis.phantoms.trunk import BEND_MM, Body

__all__ = ["paint_bowel", "paint_pancreas", "paint_stomach"]

_WALL_MM, _STEP_MM = 2.5, 5.0
_MARGIN_MM = 2.0 * BEND_MM


class _Tube(NamedTuple):
    """A tube within its box of the grid: depth in mm below its surface, and how far in front of its axis."""

    box: tuple[slice, slice, slice]
    depth: np.ndarray
    ahead: np.ndarray


def paint_stomach(canvas: Canvas, grid: Grid, body: Body, rng: np.random.Generator) -> None:
    """Stomach with fluid and, in front, where the patient lies on the back, gas."""
    y = grid[1]
    center = (-48.0 + rng.uniform(-8.0, 8.0), body.spine_y + 62.0 + rng.uniform(-6.0, 6.0), 46.0)
    axes = np.array([44.0, 34.0, 46.0]) * rng.uniform(0.8, 1.1)
    outlet = ((center[0] + 44.0, center[1] + 14.0, 14.0), (34.0, 17.0, 16.0))
    depth = np.minimum(-ellipsoids(grid, [(center, axes), outlet]), body.inner - 3.0)
    depth = np.minimum(depth, body.below_diaphragm - 4.0)
    canvas.paint(depth, Tissue.BOWEL_WALL)
    canvas.paint(depth - 4.0, Tissue.FLUID)
    level = center[1] + float(rng.uniform(2.0, 0.6 * axes[1]))
    canvas.paint(np.minimum(depth - 4.0, y - level), Tissue.GAS)


def paint_pancreas(canvas: Canvas, grid: Grid, body: Body, rng: np.random.Generator) -> None:
    """Head beside the duodenum, body before the aorta, tail towards the spleen."""
    back = body.spine_y
    course = np.array(
        [[34, back + 42, -22], [24, back + 50, -4], [-10, back + 58, 6], [-45, back + 42, 18], [-72, back + 22, 26]]
    )
    tube = _tube(grid, _smooth(course + rng.uniform(-5.0, 5.0, course.shape)), 11.0)
    if tube is not None:
        canvas.paint(tube.depth, Tissue.PANCREAS, tube.box)


def paint_bowel(canvas: Canvas, grid: Grid, body: Body, rng: np.random.Generator) -> None:
    """Loops of small bowel below the stomach, and the colon as a frame around them."""
    wide, back, front = body.half_width, body.spine_y, body.front_y
    low, high = np.array([-0.62 * wide, back + 42.0, -130.0]), np.array([0.62 * wide, front - 16.0, -14.0])
    for _ in range(int(rng.integers(22, 29))):
        walk = _walk(rng, low, high)
        tube = _tube(grid, walk, float(rng.uniform(10.0, 13.5)))
        if tube is not None:
            gas = float(rng.uniform(1.0, 7.0)) if rng.random() < 0.25 else None
            content = Tissue.FLUID if rng.random() < 0.4 else Tissue.BOWEL_CONTENT
            _paint_tube(canvas, body, tube, content, gas)
    side, low_y, mid_y = 0.80 * wide, back + 8.0, back + 40.0
    course = np.array(
        [
            [side, low_y + 6, -190], [side + 2, low_y + 4, -110], [side, low_y + 10, -62],
            [0.66 * wide, mid_y + 18, -40], [0.35 * wide, front - 26, -52], [0.0, front - 22, -62],
            [-0.35 * wide, front - 24, -46], [-0.66 * wide, mid_y + 12, -10], [-side, low_y + 14, -4],
            [-side, low_y, -60], [-side - 2, low_y, -110],
            [-side, low_y, -190],
        ]
    )  # fmt: skip
    course = _smooth(course + rng.uniform(-6.0, 6.0, course.shape))
    haustra = 1.0 + 0.11 * np.sin(np.arange(len(course)) * _STEP_MM * 2.0 * np.pi / 34.0)
    tube = _tube(grid, course, float(rng.uniform(17.0, 21.0)) * haustra)
    if tube is not None:
        _paint_tube(canvas, body, tube, Tissue.BOWEL_CONTENT, float(rng.uniform(-6.0, 8.0)))


def _paint_tube(canvas: Canvas, body: Body, tube: _Tube, content: Tissue, gas_from_mm: float | None) -> None:
    depth = np.minimum(tube.depth, body.inner[tube.box] - 2.0)
    # A rim of fat keeps neighbouring loops apart.
    canvas.paint(np.minimum(depth + 1.5, body.inner[tube.box] - 0.5), Tissue.FAT, tube.box)
    canvas.paint(depth, Tissue.BOWEL_WALL, tube.box)
    canvas.paint(depth - _WALL_MM, content, tube.box)
    if content is Tissue.BOWEL_CONTENT and canvas.texture is not None:
        specks = 3.0 * (canvas.texture[tube.box] - 1.5)
        canvas.paint(np.minimum(depth - _WALL_MM - 1.0, specks), Tissue.GAS, tube.box)
    if gas_from_mm is not None:
        canvas.paint(np.minimum(depth - _WALL_MM, tube.ahead - gas_from_mm), Tissue.GAS, tube.box)


def _smooth(course: np.ndarray) -> np.ndarray:
    """A smooth curve through the points (N, 3), as points about 5 mm apart."""
    from scipy.interpolate import CubicSpline

    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(course, axis=0), axis=1))])
    return CubicSpline(length, course)(np.arange(0.0, length[-1], _STEP_MM))


def _walk(rng: np.random.Generator, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """A winding course within a box; (N, 3) in mm."""
    place = rng.uniform(low, high)
    heading = rng.standard_normal(3)
    points = []
    for _ in range(16):
        points.append(place)
        heading = 0.75 * heading / np.linalg.norm(heading) + 0.55 * rng.standard_normal(3) * [1.0, 1.0, 0.6]
        outside = (place + 12.0 * heading < low) | (place + 12.0 * heading > high)
        heading = np.where(outside, -heading, heading)
        place = np.clip(place + 12.0 * heading / np.linalg.norm(heading), low, high)
    return _smooth(np.asarray(points))


def _tube(grid: Grid, course: np.ndarray, radius: float | np.ndarray) -> _Tube | None:
    """The tube of balls around the points of a course (N, 3), or None where the grid does not show it."""
    radii = np.broadcast_to(radius, len(course))
    reach = float(radii.max()) + 4.0
    box = _box(_lines(grid), course.min(axis=0) - reach, course.max(axis=0) + reach)
    if box is None:
        return None
    within = tuple(g[box] for g in grid)
    depth = np.full(within[0].shape, -reach, dtype=np.float32)
    ahead = np.zeros_like(depth)
    lines = _lines((within[0], within[1], within[2]))
    for center, size in zip(course, radii, strict=True):
        small = _box(lines, center - reach, center + reach)
        if small is None:
            continue
        x, y, z = (g[small] - c for g, c in zip(within, center, strict=True))
        ball = size - np.sqrt(x**2 + y**2 + z**2)
        nearer = ball > depth[small]
        depth[small] = np.where(nearer, ball, depth[small])
        ahead[small] = np.where(nearer, y, ahead[small])
    return _Tube(box, depth, ahead)


def _lines(grid: Grid) -> list[np.ndarray]:
    """The coordinates along one line of each axis; other lines differ by less than the margin of a box."""
    return [grid[0][:, 0, 0], grid[1][0, :, 0], grid[2][0, 0, :]]


def _box(lines: list[np.ndarray], low: np.ndarray, high: np.ndarray) -> tuple[slice, slice, slice] | None:
    """Part of a slightly bent grid that holds the coordinates between ``low`` and ``high``; None if there is none."""
    found = []
    for axis, line in enumerate(lines):
        inside = np.flatnonzero((line > low[axis] - _MARGIN_MM) & (line < high[axis] + _MARGIN_MM))
        if not inside.size:
            return None
        found.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return found[0], found[1], found[2]

"""A head with one lesion at a known place, on any grid."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor

SHAPE = (48, 60, 40)
LESION = (14, 40, 26)
RADIUS = 4.0


class Head(NamedTuple):
    """Scan, map, labels and candidates of the lesion, and its centre in mm, RAS."""

    image: MetaTensor
    anomaly_map: MetaTensor
    labels: MetaTensor
    candidates: list[dict[str, Any]]
    centre: list[float]


def head(
    affine: np.ndarray | None = None, shape: tuple[int, int, int] = SHAPE, tissue: float = 400.0, air: float = 0.0
) -> Head:
    """The lesion is at the voxel ``LESION``; its map is 1, that of other tissue 0.02 to 0.2."""
    matrix = np.eye(4) if affine is None else affine
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(np.float64)
    middle = (np.array(shape) - 1) / 2
    body = (((grid - middle) / (0.42 * np.array(shape))) ** 2).sum(axis=-1) < 1
    noise = np.random.default_rng(0).random(shape)
    scan = np.where(body, tissue + 0.1 * abs(tissue) * noise, air)
    lesion = np.linalg.norm(grid - LESION, axis=-1) <= RADIUS
    scan[lesion] = tissue * 1.5
    heat = np.where(body, 0.02 + 0.1 * noise, 0.0)
    heat[lesion] = 1.0
    centre = [float(value) for value in (matrix @ [*LESION, 1])[:3]]
    candidates = [{"id": 1, "peak_score": 1.0, "peak_ras_mm": centre}]
    image, anomaly_map, labels = (
        MetaTensor(torch.tensor(array, dtype=torch.float32)[None], affine=matrix) for array in (scan, heat, lesion)
    )
    return Head(image, anomaly_map, labels, candidates, centre)


def turned(degrees: tuple[float, float, float], spacing: tuple[float, float, float]) -> np.ndarray:
    """An oblique affine: turned about x, y and z, with these lengths of a voxel."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        first, second = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    affine = np.eye(4)
    affine[:3, :3] = matrix * spacing
    affine[:3, 3] = -20.0, 35.0, 12.5
    return affine


# As in many files: RAS, LPS (x and y run to the left and to posterior), axes in another order, thick slices, oblique.
AFFINES = {
    "ras": np.diag([1.0, 1.0, 1.5, 1.0]),
    "lps": np.array([[-1.0, 0, 0, 30], [0, -1.0, 0, 40], [0, 0, 1.0, -5], [0, 0, 0, 1]]),
    "sagittal, flipped": np.array([[0, 0, -3.0, 50], [-1.0, 0, 0, 20], [0, -1.0, 0, 10], [0, 0, 0, 1]]),
    "oblique": turned((12.0, -18.0, 9.0), (0.9, 1.1, 2.0)),
}

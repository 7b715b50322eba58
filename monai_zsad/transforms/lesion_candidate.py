"""One lesion candidate: position, size, score and shape of a connected region."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from nibabel.affines import apply_affine

__all__ = ["LesionCandidate", "measured", "rank", "voxel_volume"]

Point = tuple[float, float, float]
Voxel = tuple[int, int, int]

_TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class LesionCandidate:
    """A connected suspicious region.

    Attributes:
        id: value in the label map; 1 is the most suspicious candidate.
        voxels: number of voxels.
        volume_mm3: volume in mm3.
        peak_score: largest value of the map.
        mean_score: mean of the map.
        centroid_ras_mm: centre of gravity of its voxels, (x, y, z) in mm, RAS.
        centroid_lps_mm: the same point in LPS.
        centroid_voxel: the same point as fractional indices of the array.
        peak_ras_mm: centre of the voxel with the largest value, (x, y, z) in mm, RAS. If several voxels have this
            value, it is the voxel with the smallest x, then y, then z.
        peak_lps_mm: the same point in LPS.
        peak_voxel: the same point as indices of the array.
        bounding_box: (start, stop) along each axis of the array, stop not included.
        slice_range: first and last slice, both included, along the third axis of the array.
        equivalent_diameter_mm: diameter of a ball of the same volume.
        elongation: longest divided by shortest principal axis of the ellipsoid with the same second moments, at least
            1.
        sphericity: surface of a ball of the same volume, divided by the surface of the region (from its mesh). It is 1
            for a ball, and less for a long, flat or lobed region.
    """

    id: int
    voxels: int
    volume_mm3: float
    peak_score: float
    mean_score: float
    centroid_ras_mm: Point
    centroid_lps_mm: Point
    centroid_voxel: Point
    peak_ras_mm: Point
    peak_lps_mm: Point
    peak_voxel: Voxel
    bounding_box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    slice_range: tuple[int, int]
    equivalent_diameter_mm: float
    elongation: float
    sphericity: float

    def as_dict(self) -> dict[str, Any]:
        """Values for JSON. Floats are rounded to six decimals."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def _point(values: np.ndarray) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z


def _elongation(coordinates: np.ndarray, matrix: np.ndarray) -> float:
    """Ratio of the principal axes. It includes the moments of a voxel, so that a single voxel has a shape too."""
    centred = coordinates - coordinates.mean(0)
    moments = matrix @ (centred.T @ centred / len(centred) + np.eye(3) / 12) @ matrix.T
    lengths = np.sqrt(np.linalg.eigvalsh(moments))
    return float(lengths[-1] / lengths[0])


def _sphericity(image: np.ndarray, matrix: np.ndarray) -> float:
    """Sphericity from volume and surface of one mesh, so that it stays in (0, 1] for the smallest regions too."""
    from skimage.measure import marching_cubes, mesh_surface_area

    vertices, faces, _, _ = marching_cubes(np.pad(image, 1).astype(np.float32), 0.5)
    vertices = (vertices - vertices.mean(0)) @ matrix.T
    corners = vertices[faces].astype(np.float64)
    volume = abs(np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))) / 6
    return float(min(1.0, np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / mesh_surface_area(vertices, faces)))


def voxel_volume(affine: np.ndarray) -> float:
    """Volume of a voxel in mm3."""
    # The determinant would give 3.0000000000000004 for a voxel of 3 mm3.
    return abs(float(np.cross(affine[:3, 0], affine[:3, 1]) @ affine[:3, 2]))


def measured(region: Any, values: np.ndarray, start: np.ndarray, affine: np.ndarray) -> LesionCandidate:
    """Measure a region.

    Args:
        region: a region from scikit-image's ``regionprops``.
        values: anomaly map of the box that the regions were found in.
        start: first voxel of that box, (3,).
        affine: (4, 4), index of the whole array to mm, RAS.

    Returns:
        The candidate, with id 0.
    """
    coordinates = region.coords
    scores = values[tuple(coordinates.T)]
    coordinates = coordinates + start
    centroid = coordinates.mean(0)
    peaks = coordinates[scores == scores.max()]
    # Rounded, so that among equal peaks the same one is chosen in every orientation of the array.
    peak = peaks[np.lexsort(np.round(apply_affine(affine, peaks), 3).T[::-1])[0]]
    centroid_mm, peak_mm = apply_affine(affine, centroid), apply_affine(affine, peak)
    first, stop = coordinates.min(0).tolist(), (coordinates.max(0) + 1).tolist()
    volume = len(coordinates) * voxel_volume(affine)
    return LesionCandidate(
        id=0,
        voxels=len(coordinates),
        volume_mm3=volume,
        peak_score=float(scores.max()),
        mean_score=float(scores.mean(dtype=np.float64)),
        centroid_ras_mm=_point(centroid_mm),
        centroid_lps_mm=_point(centroid_mm * _TO_LPS),
        centroid_voxel=_point(centroid),
        peak_ras_mm=_point(peak_mm),
        peak_lps_mm=_point(peak_mm * _TO_LPS),
        peak_voxel=(int(peak[0]), int(peak[1]), int(peak[2])),
        bounding_box=((first[0], stop[0]), (first[1], stop[1]), (first[2], stop[2])),
        slice_range=(first[2], stop[2] - 1),
        equivalent_diameter_mm=(6 * volume / np.pi) ** (1 / 3),
        elongation=_elongation(coordinates, affine[:3, :3]),
        sphericity=_sphericity(region.image, affine[:3, :3]),
    )


def rank(candidate: LesionCandidate) -> tuple[float, ...]:
    """Sort key: most suspicious first."""
    # The last digits of the mean depend on the order of summation.
    position = (round(x, 3) for x in candidate.peak_ras_mm)
    return (-candidate.peak_score, -round(candidate.mean_score, 9), -candidate.voxels, *position)

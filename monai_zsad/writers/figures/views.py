"""A scan, its map and its labels on one grid, turned for display."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, OutputError

__all__ = ["PLANES", "View", "make_view", "on_grid", "upright"]

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Planes by the RAS axis that runs through them."""


@dataclass(frozen=True)
class View:
    """Scan, map and labels on one grid, with axes nearest to R, A, S; made by :func:`make_view`.

    Attributes:
        scan: (X, Y, Z), in the scan's own unit; of a picture in colour, its brightness.
        heat: map (X, Y, Z).
        affine: (4, 4), index to mm in RAS.
        source_affine: (4, 4), index in the scan's file to mm in RAS.
        axis: axis through the shown plane.
        labels: (X, Y, Z), 0 outside of the candidates.
        colour: (3, X, Y, Z), red, green and blue in [0, 1]; None for grey scans.
    """

    scan: np.ndarray
    heat: np.ndarray
    affine: np.ndarray
    source_affine: np.ndarray
    axis: int
    labels: np.ndarray | None = None
    colour: np.ndarray | None = None

    @property
    def spacing(self) -> list[float]:
        """Distance of neighbouring voxels along the three axes, mm."""
        return [float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0)]

    def index_of(self, point: Sequence[float]) -> int:
        """Slice nearest to a point.

        Args:
            point: (x, y, z) in mm, RAS.

        Returns:
            Its index along :attr:`axis`.
        """
        index = (np.linalg.inv(self.affine) @ [*point, 1.0])[self.axis]
        return int(np.clip(np.rint(index), 0, self.scan.shape[self.axis] - 1))


def _array(volume: NdarrayOrTensor) -> np.ndarray:
    if isinstance(volume, torch.Tensor):
        plain = volume.detach().cpu()
        array = (plain.float() if plain.is_floating_point() else plain).numpy()
    else:
        array = np.asarray(volume)
    return array[0] if array.ndim == 4 else array


def _colours(scan: NdarrayOrTensor) -> np.ndarray | None:
    """(3, X, Y, Z) in [0, 1] of a picture in colour, as it was read (0 to 255) or as the network saw it; else None."""
    if not (isinstance(scan, MetaTensor) and scan.meta.get("colour") == "RGB" and len(scan) == 3):
        return None
    values = scan.detach().cpu().float().numpy()
    return np.clip(values / (255.0 if values.max() > 1.0 else 1.0), 0.0, 1.0)


def on_grid(volume: NdarrayOrTensor, like: NdarrayOrTensor) -> NdarrayOrTensor:
    """A volume (C, X, Y, Z) on the grid of another, by trilinear interpolation if they differ.

    So a cropped and resampled scan (the input of the network) can be shown with a map on the grid of the original scan.
    Voxels outside of the volume get its smallest value.

    Args:
        volume: (C, X, Y, Z); without an affine, it is returned as it is.
        like: (C, X, Y, Z) on the grid of the result.

    Returns:
        The first channel, or all of a picture in colour, on that grid; ``volume`` itself if it is on that grid already.
    """
    from scipy import ndimage

    if not (isinstance(volume, MetaTensor) and isinstance(like, MetaTensor)):
        return volume
    own, wanted = volume.affine.cpu().numpy(), like.affine.cpu().numpy()
    if volume.shape[-3:] == like.shape[-3:] and np.allclose(own, wanted, atol=1e-3):
        return volume
    colours = _colours(volume)
    # MONAI's ResampleToMatch needs a grid of three numbers per voxel, gigabytes for a large CT.
    matrix = np.linalg.inv(own) @ wanted
    shape = tuple(like.shape[-3:])
    moved = [
        ndimage.affine_transform(values, matrix, output_shape=shape, order=1, cval=float(values.min()))
        for values in ([_array(volume)] if colours is None else colours)
    ]
    source = like.meta.get("original_affine")
    meta = {} if source is None else {"original_affine": source}
    if colours is not None:
        meta["colour"] = "RGB"
    return MetaTensor(np.stack(moved), affine=like.affine, meta=meta)


def make_view(
    scan: NdarrayOrTensor,
    heat: NdarrayOrTensor,
    affine: np.ndarray | None,
    plane: str | None,
    labels: NdarrayOrTensor | None = None,
) -> View:
    """Check that scan, map and labels lie on one grid, and turn them to the axes nearest to R, A, S.

    Args:
        scan: (X, Y, Z) or (C, X, Y, Z), the first channel is shown; all three of a picture in colour.
        heat: map of the same size; give the scan again to draw no map.
        affine: (4, 4), index to mm in RAS; None takes the affine of the scan.
        plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``; None: that of the scan's third axis.
        labels: whole numbers of the same size, for :func:`draw_contours`.

    Returns:
        The view.

    Raises:
        ConfigurationError: if the plane is unknown, there is no affine, or the volumes are not on one grid.
        OutputError: if the map holds NaN or infinity.

    Example:
        >>> scan = np.arange(24.0).reshape(2, 3, 4)
        >>> make_view(scan, scan, np.diag([-1, 1, 5, 1]), "axial").spacing
        [1.0, 1.0, 5.0]
    """
    from nibabel import orientations

    if plane is not None and plane not in PLANES:
        raise ConfigurationError(f"plane is {plane!r}; give one of {', '.join(PLANES)}, or None for the third axis")

    grid = scan.affine.cpu().numpy() if affine is None and isinstance(scan, MetaTensor) else affine
    if grid is None:
        raise ConfigurationError("affine is missing: give it, or a MetaTensor as scan")
    colours = _colours(scan)
    image, values = _array(scan) if colours is None else colours.mean(axis=0), _array(heat)
    if image.shape != values.shape or image.ndim != 3:
        raise ConfigurationError(f"scan {image.shape} and map {values.shape} are not two volumes on one grid")
    if isinstance(heat, MetaTensor) and not np.allclose(heat.affine.cpu().numpy(), grid, atol=1e-3):
        raise ConfigurationError("scan and map have different affines: save the preview before Invertd, or of a copy")
    if not np.isfinite(values).all():
        raise OutputError("the anomaly map holds NaN or infinity: no preview; run in float32 (amp off)")
    marked = None if labels is None else _array(labels)
    if marked is not None and marked.shape != image.shape:
        raise ConfigurationError(f"scan {image.shape} and labels {marked.shape} are not two volumes on one grid")
    turn = orientations.io_orientation(grid)
    source = scan.meta.get("original_affine") if isinstance(scan, MetaTensor) else None
    turned = orientations.apply_orientation(image, turn)
    single = [axis for axis, size in enumerate(turned.shape) if size == 1]
    if len(single) == 1:  # as in UprightOrientation: any other plane would show a line
        plane = next(name for name, axis in PLANES.items() if axis == single[0])
    return View(
        scan=turned,
        heat=orientations.apply_orientation(values, turn),
        affine=grid @ orientations.inv_ornt_aff(turn, image.shape),
        source_affine=grid if source is None else np.asarray(source, dtype=np.float64),
        axis=int(turn[2, 0]) if plane is None else PLANES[plane],
        labels=None if marked is None else orientations.apply_orientation(marked, turn),
        colour=None
        if colours is None
        else np.stack([orientations.apply_orientation(channel, turn) for channel in colours]),
    )


def upright(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """A slice as a radiologist sees it: superior or anterior on top, the patient's right or anterior on the left.

    Args:
        volume: (X, Y, Z) with axes nearest to R, A, S, as in a :class:`View`.
        axis: axis through the plane.
        index: index of the slice.

    Returns:
        (rows, columns), a view of the volume's memory.

    Example:
        >>> upright(np.arange(8).reshape(2, 2, 2), 2, 0).tolist()
        [[6, 2], [4, 0]]
    """
    # Not np.take, which copies the complete volume if its memory is in another order.
    return volume[(slice(None),) * axis + (index,)][::-1, ::-1].T

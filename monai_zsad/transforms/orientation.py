"""Slices in the upright display of radiology, for every order of the array's axes."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import InvertibleTransform, MapTransform
from monai.transforms.spatial.functional import orientation
from monai.utils import TraceKeys, TransformBackends

from monai_zsad.errors import ConfigurationError
from monai_zsad.transforms._volume import SPACING_TOLERANCE, as_volume, ras_affine

_logger = logging.getLogger(__name__)

__all__ = [
    "DISPLAY_AXCODES",
    "UprightOrientation",
    "UprightOrientationD",
    "UprightOrientationDict",
    "UprightOrientationd",
    "acquisition_plane",
]

DISPLAY_AXCODES: Mapping[str, str] = MappingProxyType({"axial": "PLS", "coronal": "ILA", "sagittal": "IPR"})
"""Directions in which the three array axes (rows, columns, slices) grow, as nibabel's axis codes.

A row index grows down the image and a column index to its right, so axial is anterior up, coronal and sagittal are
superior up; axial and coronal have the patient's right on the left, sagittal has anterior on the left. The slice index
grows with the RAS coordinate: to superior, anterior, right.
"""

_PLANE_OF_NORMAL = ("sagittal", "coronal", "axial")


def acquisition_plane(affine: np.ndarray, shape: Sequence[int] | None = None) -> str:
    """The anatomical plane closest to the slices that were acquired.

    If exactly one axis of the array has a single voxel, it is the slice axis. Otherwise it is the axis with the largest
    voxel spacing. If several axes share the largest spacing (within 0.1 %), it is the third axis.

    Args:
        affine: 4 x 4 voxel-to-world matrix in mm, RAS.
        shape: voxels along each axis of the array, if known.

    Returns:
        ``"axial"``, ``"coronal"`` or ``"sagittal"``.

    Example:
        >>> acquisition_plane(np.diag([4.0, 0.7, 0.7, 1.0]))
        'sagittal'
        >>> acquisition_plane(np.eye(4))
        'axial'
        >>> acquisition_plane(np.eye(4), (200, 1, 180))
        'coronal'
    """
    from nibabel.orientations import io_orientation

    single = np.flatnonzero([] if shape is None else np.equal(shape, 1))
    if len(single) == 1:
        return _PLANE_OF_NORMAL[int(io_orientation(affine)[single[0], 0])]
    spacing = affine_to_spacing(affine, 3)
    largest = np.flatnonzero(spacing >= spacing.max() * (1 - SPACING_TOLERANCE))
    slice_axis = int(largest[0]) if len(largest) == 1 else 2
    return _PLANE_OF_NORMAL[int(io_orientation(affine)[slice_axis, 0])]


class UprightOrientation(InvertibleTransform):
    """Reorder and flip the array's axes to (rows, columns, slices) of an upright display; nothing is resampled.

    MONAI's ``Orientation`` takes one fixed set of axis codes; the plane of acquisition depends on the scan. Its inverse
    reads the directions from the affine again, which is ambiguous for scans tilted by 45 degrees. Here the permutation
    itself is stored. The same function as in ``Orientation`` does the permutation.

    Args:
        plane: ``"axial"``, ``"coronal"``, ``"sagittal"``, or ``"acquisition"`` (see :func:`acquisition_plane`). The
            axes follow :data:`DISPLAY_AXCODES`; an oblique scan takes the closest directions. A single slice is shown
            in its own plane, because in another plane it would be a line; a warning says so.

    Raises:
        ConfigurationError: an unknown plane.

    Example:
        >>> import torch
        >>> scan = MetaTensor(torch.zeros(1, 5, 6, 7), affine=torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0])))
        >>> UprightOrientation("coronal")(scan).shape
        torch.Size([1, 7, 5, 6])
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - as MONAI declares it

    def __init__(self, plane: str = "axial") -> None:
        if plane != "acquisition" and plane not in DISPLAY_AXCODES:
            raise ConfigurationError(
                f"plane={plane!r} is not known: accepted are {', '.join(map(repr, DISPLAY_AXCODES))}, 'acquisition'."
            )
        self.plane = plane

    def __call__(self, img: NdarrayOrTensor) -> MetaTensor:
        """Turn the volume upright.

        Args:
            img: volume (C, X, Y, Z); its affine in mm, RAS. Without metadata, the axes are taken as R, A, S.

        Returns:
            The volume (C, rows, columns, slices) with its affine.

        Raises:
            InputError: not four axes, or an affine that is singular or not finite.
        """
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        volume = as_volume(img)
        affine = ras_affine(volume)
        shape = volume.shape[1:]
        own = acquisition_plane(affine, shape)
        plane = own if self.plane == "acquisition" or sorted(shape)[:2].count(1) == 1 else self.plane
        if plane != self.plane != "acquisition":
            _logger.warning("The scan is a single %s slice: plane=%r is not used", plane, self.plane)
        turn = ornt_transform(io_orientation(affine), axcodes2ornt(DISPLAY_AXCODES[plane]))
        # MONAI's function changes its argument
        out = orientation(volume, affine, turn.copy(), lazy=False, transform_info=self.get_transform_info())
        if isinstance(out, MetaTensor) and self.tracing:
            out.applied_operations[-1][TraceKeys.EXTRA_INFO]["turn"] = turn
        return out

    def inverse(self, data: torch.Tensor) -> MetaTensor:
        """Undo the permutation and the flips that were recorded."""
        info = self.pop_transform(data)[TraceKeys.EXTRA_INFO]
        turn = np.asarray(info["turn"])
        back = np.empty_like(turn)
        back[turn[:, 0].astype(int)] = np.column_stack([np.arange(len(turn)), turn[:, 1]])
        with self.trace_transform(False):
            return orientation(data, None, back, lazy=False, transform_info=self.get_transform_info())


class UprightOrientationd(MapTransform, InvertibleTransform):
    """Dictionary form of :class:`UprightOrientation`.

    Args:
        keys: keys of the volumes.
        plane: see :class:`UprightOrientation`.
        allow_missing_keys: do not raise an error if a key is missing.

    Example:
        >>> import torch
        >>> upright = UprightOrientationd("image", "sagittal")
        >>> data = upright({"image": MetaTensor(torch.zeros(1, 5, 6, 7))})
        >>> data["image"].shape, upright.inverse(data)["image"].shape
        (torch.Size([1, 7, 6, 5]), torch.Size([1, 5, 6, 7]))
    """

    backend = UprightOrientation.backend

    def __init__(self, keys: KeysCollection, plane: str = "axial", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.upright = UprightOrientation(plane)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Turn every key upright; the other entries are passed on."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.upright(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Turn every key back."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.upright.inverse(d[key])
        return d


UprightOrientationD = UprightOrientationDict = UprightOrientationd

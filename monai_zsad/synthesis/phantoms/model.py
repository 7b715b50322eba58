"""The result of a phantom: a synthetic scan, its tissues and its lesion."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

__all__ = ["Phantom", "Tissue"]


class Tissue(IntEnum):
    """Classes of :attr:`Phantom.tissue`. The numbers are fixed, and the same for head and abdomen.

    ``MUSCLE`` includes skin. ``CSF`` includes the fluid around the spinal cord; the cord is ``GREY``. ``BONE`` is
    compact bone, ``MARROW`` the marrow inside it, ``VESSEL`` blood. ``FLUID`` is the content of stomach, bowel and
    gallbladder.

    Example:
        >>> Tissue(5).name, int(Tissue.LIVER)
        ('WHITE', 8)
    """

    AIR = 0
    FAT = 1
    BONE = 2
    CSF = 3
    GREY = 4
    WHITE = 5
    NUCLEI = 6
    MARROW = 7
    LIVER = 8
    SPLEEN = 9
    KIDNEY_CORTEX = 10
    KIDNEY_MEDULLA = 11
    MUSCLE = 12
    VESSEL = 13
    DISC = 14
    BOWEL_WALL = 15
    BOWEL_CONTENT = 16
    FLUID = 17
    GAS = 18
    LUNG = 19
    PANCREAS = 20


class Phantom(NamedTuple):
    """A synthetic scan and its true tissues and lesion. It is neither a patient nor an atlas of anatomy.

    Attributes:
        image: (X, Y, Z) float32: HU if ``contrast`` is ``"ct"``, otherwise arbitrary units from 0 to about 1000.
        lesion: (X, Y, Z) uint8, 1 inside the lesion.
        affine: (4, 4) float64, voxel index to mm in RAS.
        center_mm: the lesion's centre in RAS mm; None without a lesion.
        radius_mm: the lesion's radius in mm; None without a lesion.
        tissue: (X, Y, Z) uint8, one of :class:`Tissue`: the anatomy without the lesion.
        anatomy: ``"head"`` or ``"abdomen"``.
        contrast: as requested.
        lesion_kind: ``"hyperintense"``, ``"hypointense"``, ``"hyperdense"`` or ``"hypodense"`` relative to the
            surrounding tissue; None without a lesion.
        seed: as requested.
    """

    image: np.ndarray
    lesion: np.ndarray
    affine: np.ndarray
    center_mm: tuple[float, float, float] | None
    radius_mm: float | None
    tissue: np.ndarray
    anatomy: str
    contrast: str
    lesion_kind: str | None
    seed: int

    def turned(self, degrees: tuple[float, float, float]) -> Phantom:
        """The same voxels with an oblique affine, as of a patient who lies rotated in the scanner.

        Args:
            degrees: rotation about the x, y and z axis of RAS, in this order, around the origin.

        Returns:
            Another phantom that shares the voxels.

        Example:
            >>> from monai_zsad.synthesis import phantom_head
            >>> head = phantom_head((32, 32, 8), (6.0, 6.0, 20.0), lesion=False)
            >>> head.turned((0.0, 0.0, 90.0)).affine[:3, 0].round(6).tolist()
            [0.0, 6.0, 0.0]
        """
        from scipy.spatial.transform import Rotation

        rotation = np.eye(4)
        rotation[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
        center = None
        if self.center_mm is not None:
            x, y, z = rotation[:3, :3] @ np.asarray(self.center_mm)
            center = (float(x), float(y), float(z))
        return self._replace(affine=rotation @ self.affine, center_mm=center)

"""CT windows: the transform from HU to [0, 1]."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, ScaleIntensityRange, Transform
from monai.utils import TransformBackends

from monai_zsad.errors import InputError
from monai_zsad.transforms._volume import as_volume, describe, each_voxel, require_finite
from monai_zsad.transforms.hu_windows import WindowSpec, parse_windows

__all__ = ["CTWindow", "CTWindowD", "CTWindowDict", "CTWindowd"]


class CTWindow(Transform):
    """Show a CT in one window, or in three as red, green and blue.

    MONAI's ``ScaleIntensityRange`` does the arithmetic. It has no named windows, takes the lower and upper end instead
    of level and width, and does not combine several windows into RGB.

    Args:
        windows: a name of :data:`CT_WINDOWS`, a (level, width) pair in HU, or a list of one or three of those.

    Raises:
        ConfigurationError: see :func:`parse_windows`.

    Example:
        >>> import torch
        >>> hu = torch.tensor([-1000.0, 0.0, 40.0, 3000.0]).reshape(1, 4, 1, 1)
        >>> CTWindow("brain")(hu).flatten().tolist()
        [0.0, 0.0, 0.5, 1.0]
        >>> CTWindow(["brain", "subdural", "bone"])(hu).shape
        torch.Size([3, 4, 1, 1])
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - as MONAI declares it

    def __init__(self, windows: WindowSpec) -> None:
        self.windows = parse_windows(windows)
        self._scales = [
            ScaleIntensityRange(w.level - w.width / 2, w.level + w.width / 2, 0.0, 1.0, clip=True) for w in self.windows
        ]

    def __call__(self, img: NdarrayOrTensor) -> MetaTensor:
        """Apply the windows.

        Args:
            img: volume (C, X, Y, Z) in HU; C must be 1 for three windows.

        Returns:
            (C, X, Y, Z), or (3, X, Y, Z) for three windows; float32 in [0, 1].

        Raises:
            InputError: NaN or infinite voxels, not four axes, or several channels for three windows.
        """
        volume = as_volume(img)
        require_finite(volume)
        if len(self._scales) == 1:
            return each_voxel(volume, self._scales[0])
        if volume.shape[0] != 1:
            raise InputError(
                f"{describe(volume)} has {volume.shape[0]} channels, but three windows make RGB of a single one: "
                "select one channel first, for example with MONAI's SplitDimd."
            )
        return torch.cat([each_voxel(volume, scale) for scale in self._scales])


class CTWindowd(MapTransform):
    """Dictionary form of :class:`CTWindow`.

    Args:
        keys: keys of the volumes.
        windows: see :class:`CTWindow`.
        allow_missing_keys: do not raise an error if a key is missing.

    Example:
        >>> import torch
        >>> float(CTWindowd("image", [40, 80])({"image": torch.full((1, 2, 2, 2), 40.0)})["image"].mean())
        0.5
    """

    backend = CTWindow.backend

    def __init__(self, keys: KeysCollection, windows: WindowSpec, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.window = CTWindow(windows)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Apply the windows to every key; the other entries are passed on."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.window(d[key])
        return d


CTWindowD = CTWindowDict = CTWindowd

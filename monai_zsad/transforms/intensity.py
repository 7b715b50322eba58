"""Scaling of intensities to [0, 1]: robust percentiles inside the body, and the choice between them and CT windows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, ScaleIntensityRange, Transform
from monai.utils import TransformBackends

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.transforms._volume import as_volume, describe, each_voxel, require_finite
from monai_zsad.transforms.ct_windows import CTWindow
from monai_zsad.transforms.foreground import BodyMask
from monai_zsad.transforms.hu_windows import WINDOW_KEYWORDS, WindowSpec, check_window, parse_windows

__all__ = [
    "ForegroundPercentileScale",
    "ForegroundPercentileScaleD",
    "ForegroundPercentileScaleDict",
    "ForegroundPercentileScaled",
    "ScanIntensity",
    "ScanIntensityD",
    "ScanIntensityDict",
    "ScanIntensityd",
]


def _record(img: torch.Tensor, applied: str) -> MetaTensor:
    """The same voxels with a copy of the metadata that contains ``applied``."""
    if isinstance(img, MetaTensor):
        img.meta = {**img.meta, "intensity": applied}
    return img


class ForegroundPercentileScale(Transform):
    """Scale so that two percentiles of the body's voxels become 0 and 1; values outside are clipped.

    MONAI's ``ScaleIntensityRangePercentiles`` takes the percentiles of the whole volume, so the contrast depends on the
    amount of air around the patient. Here only the foreground counts. Each channel is scaled separately.

    Args:
        lower: percentile (0 to 100) of the foreground that becomes 0.
        upper: percentile (0 to 100) of the foreground that becomes 1.
        foreground: maps the volume (C, X, Y, Z) to a mask (1, X, Y, Z); ``None`` is :class:`BodyMask` with its
            defaults.

    Raises:
        ConfigurationError: not 0 <= lower < upper <= 100.

    Example:
        >>> import torch
        >>> scan = torch.cat([torch.zeros(1, 100, 1, 1), torch.arange(100, 201).reshape(1, -1, 1, 1)], dim=1)
        >>> out = ForegroundPercentileScale(0, 100, foreground=lambda img: img > 0)(scan)
        >>> float(out[0, 0]), float(out[0, 150]), float(out[0, 200])
        (0.0, 0.5, 1.0)
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - as MONAI declares it

    def __init__(
        self,
        lower: float = 0.5,
        upper: float = 99.5,
        foreground: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        if not 0 <= lower < upper <= 100:
            raise ConfigurationError(
                f"lower={lower!r}, upper={upper!r}: two percentiles with 0 <= lower < upper <= 100 are needed."
            )
        self.lower = lower
        self.upper = upper
        self.foreground = BodyMask() if foreground is None else foreground

    def __call__(self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None) -> MetaTensor:
        """Scale the volume.

        Args:
            img: volume (C, X, Y, Z).
            mask: foreground (1, X, Y, Z) or (C, X, Y, Z), non-zero inside; ``None`` computes it.

        Returns:
            (C, X, Y, Z), float32 in [0, 1]. Its metadata describe the scaling under ``"intensity"``.

        Raises:
            InputError: NaN or infinite voxels, not four axes, an empty or a constant foreground.
        """
        volume = as_volume(img)
        require_finite(volume)
        inside = np.asarray(as_volume(self.foreground(volume) if mask is None else mask).cpu()) > 0
        if inside.shape[1:] != volume.shape[1:] or inside.shape[0] not in (1, volume.shape[0]):
            raise InputError(
                f"the foreground mask has the shape {inside.shape}, {describe(volume)} {tuple(volume.shape)}: "
                "both must lie on one grid, the mask with one channel or as many as the volume."
            )
        inside = np.broadcast_to(inside, tuple(volume.shape))
        channels, ranges = [], []
        for channel in range(volume.shape[0]):
            low, high = self._range(volume, channel, inside[channel])
            scale = ScaleIntensityRange(low, high, 0.0, 1.0, clip=True)
            channels.append(each_voxel(volume[channel : channel + 1], scale))
            ranges.append(f"{low:g} to {high:g}")
        out = channels[0] if len(channels) == 1 else torch.cat(channels)
        return _record(out, f"percentiles {self.lower:g} to {self.upper:g} of the foreground ({', '.join(ranges)})")

    def _range(self, volume: torch.Tensor, channel: int, inside: np.ndarray) -> tuple[float, float]:
        values = np.asarray(volume[channel].detach().cpu())[inside]
        if values.size == 0:
            raise InputError(f"{describe(volume)} has an empty foreground: check the mask, or give a lower threshold.")
        low, high = (float(value) for value in np.percentile(values, (self.lower, self.upper)))
        if high <= low:
            raise InputError(
                f"{describe(volume)} is constant in its foreground: the percentiles {self.lower:g} and {self.upper:g} "
                f"are both {low:g}. Check that it is not a mask. For a scan, choose wider percentiles or, "
                "for a CT, a window."
            )
        return low, high


class ForegroundPercentileScaled(MapTransform):
    """Dictionary form of :class:`ForegroundPercentileScale`.

    Args:
        keys: keys of the volumes.
        lower: see :class:`ForegroundPercentileScale`.
        upper: see :class:`ForegroundPercentileScale`.
        foreground: see :class:`ForegroundPercentileScale`.
        mask_key: key of a mask that is used instead of ``foreground``, for example from :class:`BodyMaskd`.
        allow_missing_keys: do not raise an error if a key is missing.

    Example:
        >>> import torch
        >>> out = ForegroundPercentileScaled("image")({"image": torch.rand(1, 8, 8, 8)})
        >>> float(out["image"].min()), float(out["image"].max())
        (0.0, 1.0)
    """

    backend = ForegroundPercentileScale.backend

    def __init__(
        self,
        keys: KeysCollection,
        lower: float = 0.5,
        upper: float = 99.5,
        foreground: Callable[[torch.Tensor], torch.Tensor] | None = None,
        mask_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scale = ForegroundPercentileScale(lower, upper, foreground)
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale every key; the other entries are passed on."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.scale(d[key], None if self.mask_key is None else d[self.mask_key])
        return d


class ScanIntensity(Transform):
    """Choose between CT windows and percentiles; photographs keep their colours.

    It applies :class:`CTWindow` or :class:`ForegroundPercentileScale`, with ``"auto"`` according to the scan. A picture
    in true colour (``meta["colour"] == "RGB"``, values from 0 to 255) is divided by 255, whatever the window is. MONAI
    has no transform that depends on the modality. It must come before padding, because 0 HU is not black.

    Args:
        window: ``"auto"`` (a CT by its ``meta["modality"]`` gets ``ct_window``, everything else percentiles),
            ``"percentile"``, a name of ``CT_WINDOWS``, [level, width] in HU, or a list of one or three names or pairs.
        ct_window: the window of ``"auto"``. The default suits any part of the body; for a head, ``"brain"`` is better.
        lower: percentile that becomes 0.
        upper: percentile that becomes 1.
        foreground: see :class:`ForegroundPercentileScale`.

    Raises:
        ConfigurationError: an unknown window, or percentiles that are out of range.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> ct = MetaTensor(torch.linspace(-1000, 1000, 64).reshape(1, 4, 4, 4), meta={"modality": "CT"})
        >>> ScanIntensity()(ct).meta["intensity"]
        'CT window soft_tissue 40/400 HU'
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - as MONAI declares it

    def __init__(
        self,
        window: WindowSpec = "auto",
        ct_window: WindowSpec = "soft_tissue",
        lower: float = 0.5,
        upper: float = 99.5,
        foreground: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        word = window.strip().lower() if isinstance(window, str) else ""
        self.window: WindowSpec = word if word in WINDOW_KEYWORDS else window
        parse_windows(ct_window, "ct_window")
        check_window(window)
        self._percentile = ForegroundPercentileScale(lower, upper, foreground)
        self._ct = CTWindow(ct_window if word in WINDOW_KEYWORDS else window)

    def __call__(self, img: NdarrayOrTensor) -> MetaTensor:
        """Scale the volume.

        Args:
            img: volume (C, X, Y, Z), a CT in HU.

        Returns:
            (C, X, Y, Z), or (3, X, Y, Z) for three windows; float32 in [0, 1]. Its metadata describe the scaling under
            ``"intensity"``.

        Raises:
            InputError: the chosen transform refuses the volume.
        """
        volume = as_volume(img)
        meta = volume.meta if isinstance(volume, MetaTensor) else {}
        if meta.get("colour") == "RGB":
            # The methods were made for such pictures. Scaling each channel by itself would change the colours.
            return _record(each_voxel(volume, lambda values: values.float() / 255), "8-bit colour divided by 255")
        is_ct = str(meta.get("modality", "")).strip().upper() == "CT"
        if self.window == "percentile" or (self.window == "auto" and not is_ct):
            return self._percentile(volume)
        if "values-rescaled" in str(meta.get("warning_codes", "")).splitlines():
            raise InputError(
                f"{describe(volume)} had values far outside of HU, which were scaled when it was read: write it in HU, "
                "or choose window='percentile'.",
                code="bad-rescale",
            )
        names = ", ".join(str(window) for window in self._ct.windows)
        return _record(self._ct(volume), f"CT window{'s' if len(self._ct.windows) > 1 else ''} {names}")


class ScanIntensityd(MapTransform):
    """Dictionary form of :class:`ScanIntensity`.

    Args:
        keys: keys of the volumes.
        window: see :class:`ScanIntensity`.
        ct_window: see :class:`ScanIntensity`.
        lower: see :class:`ScanIntensity`.
        upper: see :class:`ScanIntensity`.
        foreground: see :class:`ScanIntensity`.
        allow_missing_keys: do not raise an error if a key is missing.

    Example:
        >>> import torch
        >>> ScanIntensityd("image", window=[40, 80])({"image": torch.zeros(1, 2, 2, 2)})["image"].meta["intensity"]
        'CT window 40/80 HU'
    """

    backend = ScanIntensity.backend

    def __init__(
        self,
        keys: KeysCollection,
        window: WindowSpec = "auto",
        ct_window: WindowSpec = "soft_tissue",
        lower: float = 0.5,
        upper: float = 99.5,
        foreground: Callable[[torch.Tensor], torch.Tensor] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.intensity = ScanIntensity(window, ct_window, lower, upper, foreground)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale every key; the other entries are passed on."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.intensity(d[key])
        return d


ForegroundPercentileScaleD = ForegroundPercentileScaleDict = ForegroundPercentileScaled
ScanIntensityD = ScanIntensityDict = ScanIntensityd

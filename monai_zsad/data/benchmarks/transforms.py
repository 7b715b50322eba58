"""Transforms for 2D image data sets: loading and resizing of images and masks, random saturation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform, Transform

from monai_zsad.errors import ConfigurationError, InputError

__all__ = [
    "LoadMask",
    "LoadMaskD",
    "LoadMaskDict",
    "LoadMaskd",
    "LoadPicture",
    "LoadPictureD",
    "LoadPictureDict",
    "LoadPictured",
    "RandSaturation",
    "RandSaturationD",
    "RandSaturationDict",
    "RandSaturationd",
    "resize_mask",
    "resize_picture",
]


class LoadPicture(Transform):
    """2D image (3, S, S), float32 in [0, 1], from a file, as the methods' releases read it: RGB, PIL's bicubic.

    MONAI's ``LoadImage`` with its ``PILReader`` was not enough: it swaps rows and columns, keeps palettes and alpha,
    clips 16 bit values at 255 if it converts them, and hides the message about a damaged file. Here 16 bit values are
    divided by 257.

    Args:
        size: rows and columns S in pixels.

    Example:
        >>> LoadPicture(28).size
        28
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, path: Any) -> torch.Tensor:
        """Load the image of a path.

        Raises:
            InputError: if the file cannot be read.
        """
        from PIL import Image

        try:
            with Image.open(path) as picture:
                values = _eight_bits(picture).convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        except OSError as error:
            raise InputError(f"{path}: cannot be read as an image ({error}); copy it again") from error
        return torch.from_numpy(np.array(values)).permute(2, 0, 1).float() / 255


def _eight_bits(picture: Any) -> Any:
    from PIL import Image

    if not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture, dtype=np.float64)
    scale = 257.0 if values.max(initial=0) > 255 else 1.0
    return Image.fromarray(np.clip(np.round(values / scale), 0, 255).astype(np.uint8))


class LoadMask(Transform):
    """Mask (1, S, S), float32, 0 or 1, from a file; a mask of zeros for the empty path of a normal image.

    MONAI's ``LoadImage`` was not enough: it needs a file for every item, but normal images of the benchmark sets have
    no mask. All values above zero are anomalous. A pixel of the result is anomalous if at least half of its area is.

    Args:
        size: rows and columns S in pixels.

    Example:
        >>> LoadMask(4)("").shape
        torch.Size([1, 4, 4])
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, path: Any) -> torch.Tensor:
        """Load the mask of a path.

        Raises:
            InputError: if the file cannot be read.
        """
        from PIL import Image

        if path in ("", None):
            return torch.zeros(1, self.size, self.size)
        try:
            with Image.open(path) as picture:
                values = np.asarray(picture.convert("L") if picture.mode in ("P", "RGB", "RGBA", "LA") else picture)
        except OSError as error:
            raise InputError(f"{path}: cannot be read as a mask ({error}); copy it again") from error
        return resize_mask(torch.from_numpy((values > 0).astype(np.float32))[None], self.size)


class LoadPictured(MapTransform):
    """Dictionary form of :class:`LoadPicture`.

    Args:
        keys: keys of the paths.
        size: see :class:`LoadPicture`.
        allow_missing_keys: do not raise where a key is missing.

    Example:
        >>> LoadPictured("image", 28, allow_missing_keys=True)({})
        {}
    """

    def __init__(self, keys: KeysCollection, size: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadPicture(size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load every key; the other entries are passed on."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.load(d[key])
        return d


class LoadMaskd(MapTransform):
    """Dictionary form of :class:`LoadMask`.

    Args:
        keys: keys of the paths.
        size: see :class:`LoadMask`.
        allow_missing_keys: do not raise where a key is missing.

    Example:
        >>> LoadMaskd("label", 2)({"label": ""})["label"].shape
        torch.Size([1, 2, 2])
    """

    def __init__(self, keys: KeysCollection, size: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadMask(size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load every key; the other entries are passed on."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.load(d[key])
        return d


def resize_picture(picture: torch.Tensor, size: int) -> torch.Tensor:
    """Resize an image (C, H, W) in [0, 1] to (C, size, size) like the networks resize slices: bicubic, antialiased.

    Args:
        picture: (C, H, W) in [0, 1].
        size: side in pixels.

    Returns:
        (C, size, size) in [0, 1].

    >>> resize_picture(torch.ones(1, 2, 2), 3).shape
    torch.Size([1, 3, 3])
    """
    plain = picture.as_subclass(torch.Tensor).float()[None]
    return F.interpolate(plain, (size, size), mode="bicubic", align_corners=False, antialias=True)[0].clamp(0, 1)


def resize_mask(mask: torch.Tensor, size: int) -> torch.Tensor:
    """Resize a mask (1, H, W) to (1, size, size), 0 or 1: 1 if at least half of the area of the pixel is anomalous.

    Args:
        mask: (1, H, W), above 0 where anomalous.
        size: side in pixels.

    Returns:
        (1, size, size).

    >>> resize_mask(torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]), 1)
    tensor([[[1.]]])
    """
    plain = (mask.as_subclass(torch.Tensor) > 0).float()[None]
    shrunk = F.interpolate(plain, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return (shrunk[0] >= 0.5 - 1e-6).float()


class RandSaturation(RandomizableTransform):
    """Change the saturation of the colours at random: a blend of the image and its grey version.

    MONAI changes brightness (``RandScaleIntensity``) and contrast (``RandScaleIntensityFixedMean``), but not the
    saturation. torchvision's ``ColorJitter`` uses the global generator of torch, so ``set_random_state`` has no effect.

    Args:
        factor: the saturation is multiplied by 1 - factor to 1 + factor.
        prob: probability of a change.

    Raises:
        ConfigurationError: if ``factor`` is negative.

    Example:
        >>> grey = torch.full((3, 2, 2), 0.5)
        >>> torch.allclose(RandSaturation(0.5, prob=1.0)(grey), grey)
        True
    """

    _GREY = (0.299, 0.587, 0.114)

    def __init__(self, factor: float = 0.5, prob: float = 0.1) -> None:
        RandomizableTransform.__init__(self, prob)
        if factor < 0:
            raise ConfigurationError(f"factor={factor!r} is negative: give a factor of 0 or more")
        self.factor = factor
        self._share = 1.0

    def randomize(self, data: Any | None = None) -> None:
        """Draw whether to change the saturation, and by which factor."""
        super().randomize(data)
        self._share = 1.0 + self.R.uniform(-self.factor, self.factor)

    def __call__(self, picture: torch.Tensor, randomize: bool = True) -> torch.Tensor:
        """Blend (3, H, W); an image of one channel has no saturation and is returned unchanged."""
        if randomize:
            self.randomize()
        if not self._do_transform or picture.shape[0] != 3:
            return picture
        weights = torch.tensor(self._GREY, dtype=picture.dtype, device=picture.device).view(3, 1, 1)
        grey = (picture * weights).sum(0, keepdim=True)
        return grey + self._share * (picture - grey)


class RandSaturationd(RandomizableTransform, MapTransform):
    """Dictionary form of :class:`RandSaturation`; all keys change by the same factor.

    Args:
        keys: keys of the images.
        factor: see :class:`RandSaturation`.
        prob: see :class:`RandSaturation`.
        allow_missing_keys: do not raise where a key is missing.

    Example:
        >>> RandSaturationd("image", prob=1.0)({"image": torch.zeros(3, 2, 2)})["image"].shape
        torch.Size([3, 2, 2])
    """

    def __init__(
        self, keys: KeysCollection, factor: float = 0.5, prob: float = 0.1, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.saturate = RandSaturation(factor, prob)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandSaturationd:
        """Set the generator of both forms."""
        super().set_random_state(seed, state)
        self.saturate.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Blend every key; the other entries are passed on."""
        d = dict(data)
        self.saturate.randomize()
        for key in self.key_iterator(d):
            d[key] = self.saturate(d[key], randomize=False)
        return d


LoadMaskD = LoadMaskDict = LoadMaskd
LoadPictureD = LoadPictureDict = LoadPictured
RandSaturationD = RandSaturationDict = RandSaturationd

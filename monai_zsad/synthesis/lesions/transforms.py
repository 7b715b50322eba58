"""MONAI transforms that paint synthetic lesions into scans of any size and spacing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import TransformBackends, convert_to_dst_type

from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.synthesis.lesions.model import Lesion, LesionSettings
from monai_zsad.synthesis.lesions.painting import paint_lesions

__all__ = ["LesionedScan", "RandLesion", "RandLesionD", "RandLesionDict", "RandLesiond"]

_MOST = 255
_FOREGROUND = 0.1


class LesionedScan(NamedTuple):
    """A scan with lesions.

    Attributes:
        image: the image with lesions, float32.
        label: (1, X, Y[, Z]), uint8: 1 in a lesion, 0 elsewhere.
        lesions: the painted lesions; may be empty.
    """

    image: NdarrayOrTensor
    label: NdarrayOrTensor
    lesions: tuple[Lesion, ...]

    @property
    def caption(self) -> str:
        """The captions of the lesions, each once, separated by commas; empty without lesions."""
        return _caption(self.lesions)


class RandLesion(RandomizableTransform):
    """Paint synthetic lesions into a slice or volume at random.

    MONAI's random intensity transforms were not enough: they change a whole image (``RandBiasField``,
    ``RandHistogramShift``) or remove parts of it (``RandCoarseDropout``). None of them paints a structure into tissue
    and returns its mask and its description.

    All channels get the same lesions; their contrast is relative to the range of intensities of the channel.

    Args:
        prob: probability that lesions are painted.
        count: smallest and largest number of lesions.
        settings: appearance of the lesions.
        spacing: mm along X, Y[, Z]. Default: the spacing of a MetaTensor, otherwise 1.

    Raises:
        ConfigurationError: if ``count`` is not a range within 1 to 255.

    Example:
        >>> paint = RandLesion(prob=1.0, count=(2, 2)).set_random_state(seed=0)
        >>> found = paint(torch.ones(1, 32, 32, 16))
        >>> found.label.shape, len(found.lesions), found.caption
        (torch.Size([1, 32, 32, 16]), 2, 'large hyperintense lesion, diffuse hyperintense lesion')
    """

    backend = [TransformBackends.NUMPY]  # noqa: RUF012 - as MONAI declares it

    def __init__(
        self,
        prob: float = 0.5,
        count: tuple[int, int] = (1, 3),
        settings: LesionSettings | None = None,
        spacing: Sequence[float] | None = None,
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        fewest, most = (int(number) for number in count)
        if not 1 <= fewest <= most <= _MOST:
            raise ConfigurationError(
                f"count={tuple(count)!r}: give the smallest and the largest number, within 1 to {_MOST}"
            )
        self.count = (fewest, most)
        self.settings = settings or LesionSettings()
        self.spacing = spacing
        self._number, self._seed = fewest, 0

    def randomize(self, data: Any | None = None) -> None:
        """Draw whether to paint, the number of lesions, and the seed of their appearance."""
        super().randomize(data)
        self._number = int(self.R.randint(self.count[0], self.count[1] + 1))
        self._seed = int(self.R.randint(2**31 - 1))

    def __call__(
        self, img: NdarrayOrTensor, mask: NdarrayOrTensor | None = None, randomize: bool = True
    ) -> LesionedScan:
        """Paint lesions.

        Args:
            img: (C, X, Y) or (C, X, Y, Z), any units; not changed.
            mask: (1, X, Y[, Z]), above 0 where lesions may be visible. Default: see :meth:`foreground`.
            randomize: draw new lesions; otherwise paint the last lesions again.

        Raises:
            ConfigurationError: if the mask or the spacing does not fit the image.
            InputError: for another number of axes, or voxels that are not finite.
        """
        if randomize:
            self.randomize()
        if img.ndim not in (3, 4):
            raise InputError(f"image of shape {tuple(img.shape)}: give (C, X, Y) or (C, X, Y, Z)")
        channels: np.ndarray = _plain(img).astype(np.float32)
        label = np.zeros((1, *channels.shape[1:]), dtype=np.uint8)
        found: dict[Lesion, None] = {}
        if self._do_transform:
            if not np.isfinite(channels).all():
                raise InputError("the image holds NaN or infinite values: replace them, for example by 0")
            tissue = self.foreground(img)[0] if mask is None else _plain(mask)[0] > 0
            painted = [
                paint_lesions(
                    channel,
                    self._spacing(img),
                    tissue,
                    self._number,
                    # All channels use the same state, so that their places and shapes agree.
                    np.random.default_rng(self._seed),
                    self.settings,
                )
                for channel in channels
            ]
            channels = np.stack([channel.image for channel in painted])
            for channel in painted:
                label[0][channel.labels > 0] = 1
                found |= dict.fromkeys(channel.lesions)
        image, *_ = convert_to_dst_type(channels, img, dtype=np.float32)
        marked, *_ = convert_to_dst_type(label, img, dtype=np.uint8)
        return LesionedScan(image, marked, tuple(found))

    @staticmethod
    def foreground(img: NdarrayOrTensor) -> np.ndarray:
        """The tissue where no mask is given: the first channel is well above its minimum.

        The threshold is a tenth of the way from the minimum to the 99.5th percentile. In most scans this is the body,
        without the air inside it. A constant image is all tissue.

        Args:
            img: (C, X, Y[, Z]).

        Returns:
            (1, X, Y[, Z]) of bool.

        >>> RandLesion.foreground(np.array([[[-1000, -990, 20, 60]]]))
        array([[[False, False,  True,  True]]])
        """
        first = _plain(img)[:1]
        low, high = float(first.min()), float(np.percentile(first, 99.5))
        return first > low + _FOREGROUND * (high - low) if high > low else np.ones(first.shape, dtype=bool)

    def _spacing(self, img: NdarrayOrTensor) -> tuple[float, ...]:
        axes = img.ndim - 1
        if self.spacing is not None:
            return tuple(float(step) for step in self.spacing)
        if isinstance(img, MetaTensor):
            return tuple(float(step) for step in img.pixdim[:axes])
        return (1.0,) * axes


class RandLesiond(RandomizableTransform, MapTransform):
    """Dictionary form of :class:`RandLesion`: all keys (registered images of one patient) get the same lesions.

    It also writes the common label of the images and a caption of the lesions. The new lesions are added to a label
    that already exists.

    Args:
        keys: keys of the images.
        label_key: key of the label that is written, (1, X, Y[, Z]), uint8.
        caption_key: key of the caption that is written, such as "small hyperintense lesion, calcified lesion"; empty
            without lesions. None: it is left out.
        lesions_key: key for the tuple of :class:`~monai_zsad.synthesis.lesions.Lesion`; None: it is left out.
        mask_key: key of a mask of the tissue; None for the foreground of the first image, see
            :meth:`RandLesion.foreground`.
        prob: see :class:`RandLesion`.
        count: see :class:`RandLesion`.
        settings: see :class:`RandLesion`.
        spacing: see :class:`RandLesion`.
        allow_missing_keys: do not raise an error if a key is missing.

    Raises:
        ConfigurationError: if ``label_key`` is the key of an image, or a setting cannot be used.

    Example:
        >>> paint = RandLesiond("image", prob=1.0, count=(1, 1)).set_random_state(seed=1)
        >>> found = paint({"image": torch.ones(1, 48, 48)})
        >>> sorted(found), int(found["label"].max())
        (['caption', 'image', 'label'], 1)
    """

    backend = RandLesion.backend

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str = "label",
        caption_key: str | None = "caption",
        lesions_key: str | None = None,
        mask_key: str | None = None,
        prob: float = 0.5,
        count: tuple[int, int] = (1, 3),
        settings: LesionSettings | None = None,
        spacing: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if label_key in self.keys:
            raise ConfigurationError(f"label_key={label_key!r} is also the key of an image: give the label another key")
        self.label_key = label_key
        self.caption_key = caption_key
        self.lesions_key = lesions_key
        self.mask_key = mask_key
        self.paint = RandLesion(prob, count, settings, spacing)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandLesiond:
        """Set the generator of both forms."""
        super().set_random_state(seed, state)
        self.paint.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Paint into every key; the other entries are passed on.

        Raises:
            ConfigurationError: if ``mask_key`` is not there, or the images' shapes differ.
        """
        d = dict(data)
        self.paint.randomize()
        if self.mask_key is not None and self.mask_key not in d:
            raise ConfigurationError(f"mask_key={self.mask_key!r} is not among {', '.join(map(str, d))}: correct it")
        mask = None if self.mask_key is None else d[self.mask_key]
        label = d.get(self.label_key)
        lesions: dict[Lesion, None] = {}
        for key in self.key_iterator(d):
            if mask is None:
                mask = RandLesion.foreground(d[key])
            found = self.paint(d[key], mask, randomize=False)
            d[key] = found.image
            label = found.label if label is None else _joined(label, found.label)
            lesions |= dict.fromkeys(found.lesions)
        if label is not None:
            d[self.label_key] = label
        if self.caption_key is not None:
            d[self.caption_key] = _caption(list(lesions))
        if self.lesions_key is not None:
            d[self.lesions_key] = tuple(lesions)
        return d


def _caption(lesions: Sequence[Lesion]) -> str:
    return ", ".join(dict.fromkeys(lesion.caption for lesion in lesions))


def _joined(label: NdarrayOrTensor, found: NdarrayOrTensor) -> NdarrayOrTensor:
    both = (_plain(label) > 0) | (_plain(found) > 0)
    return convert_to_dst_type(both, found, dtype=np.uint8)[0]


def _plain(img: NdarrayOrTensor) -> np.ndarray:
    """A view or copy without metadata."""
    if isinstance(img, MetaTensor):
        img = img.as_tensor()
    return img.detach().cpu().numpy() if isinstance(img, torch.Tensor) else np.asarray(img)


RandLesionD = RandLesionDict = RandLesiond

"""Which images are grey scans, although they were saved in colour, and which show true colour."""

from __future__ import annotations

from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair

__all__ = ["as_grey"]

# Lossy compression of grey slices at qualities from 30 to 95, with a cast of 7 levels and noise of 4 levels in each
# channel, leaves differences of at most 12 levels between the channels, averaged over blocks of 3 x 3 pixels.
_BLOCK, _COMPRESSION = 3, 24
# A cross of lines, an arrow and a text cover up to 18 % of the blocks that show a head. In photographs, at least 28 %
# of the blocks are in colour, and usually more than half.
_MARKS = 0.2
_ANY_MARK = 0.001
# The surround of an image is black or white in grey and in colour.
_BLACK, _WHITE, _LIMIT = 32, 232, 250
# In slightly tinted slices after lossy compression, 95 % of the blocks lie within 10 levels of the mean colour of their
# brightness; in tints without loss, 99 % of the pixels within 5. In photographs of eyes and faces, whose saturation is
# 0.3 to 0.7, 95 % of the blocks lie within 15 to 25, and 99 % of the pixels within 17 to 36.
_TINT, _SLIGHT, _LOSSY, _LOSSLESS = 0.05, 0.25, (95, 11.0), (99, 5.0)
_STEP, _JUMPING = 8.0, 0.05
_FEWEST_LEVELS, _MOST_PIXELS, _NO_TINT = 16, 1_000_000, 255.0


def as_grey(image: Any) -> tuple[np.ndarray, list[Repair]] | None:
    """The grey values of an image, if it is a grey scan that was saved in colour.

    Grey scans are often stored as RGB. Their channels then differ a little after lossy compression or a reduction to a
    palette. Some have a tint, as of old film, or few marks in colour, such as an arrow. All these are read in grey,
    with a warning. In photographs the channels differ in most pixels, and pixels of one brightness differ in colour.

    Args:
        image: RGB image of PIL, 8 bits per channel.

    Returns:
        The luminance (rows, columns), uint8, and the warnings: none if all channels are equal. None for true colour.

    Example:
        >>> from PIL import Image
        >>> ramp = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
        >>> values, repairs = as_grey(Image.fromarray(np.stack([ramp, ramp + 3, ramp], axis=-1)))
        >>> int(values[5, 5]), [repair.code for repair in repairs]
        (107, ['nearly-grey'])
    """
    channels = np.asarray(image)
    if (channels == channels[..., :1]).all():
        return channels[..., 0], []
    blocks = np.asarray(image.reduce(_BLOCK))
    spread = _spread(blocks)[_visible(blocks)]
    marks = float((spread > _COMPRESSION).mean())
    grey = np.asarray(image.convert("L"))
    if marks <= _ANY_MARK:
        finding = f"a grey image that was saved in colour: its channels differ by up to {spread.max()} of 255 levels"
        return grey, [Repair("nearly-grey", f"{finding}; its brightness was read")]
    if _is_tinted(image):
        return grey, [Repair("nearly-grey", "a grey image with a tint; its brightness was read")]
    if marks <= _MARKS:
        finding = f"a grey image with marks in colour, such as arrows or text, on {100 * marks:.1f} % of its area"
        return grey, [Repair("coloured-marks", f"{finding}; it was read in grey, and the map may show the marks")]
    return None


def _spread(pixels: np.ndarray) -> np.ndarray:
    """Largest difference between the channels of each pixel."""
    return pixels.max(axis=-1) - pixels.min(axis=-1)


def _visible(pixels: np.ndarray) -> np.ndarray:
    """Pixels that are neither black nor white; all pixels if there are no others."""
    shown = (pixels.max(axis=-1) >= _BLACK) & (pixels.min(axis=-1) <= _WHITE)
    return shown if shown.any() else np.ones(shown.shape, dtype=bool)


def _is_tinted(image: Any) -> bool:
    """Whether the colour of a pixel follows from its brightness; after lossy compression, that of a block of pixels."""
    pixels, saturation = _beside_tint(image)
    blocks, _ = _beside_tint(image.reduce(_BLOCK))
    lossless = np.percentile(pixels, _LOSSLESS[0]) <= _LOSSLESS[1]
    lossy = saturation <= _SLIGHT and np.percentile(blocks, _LOSSY[0]) <= _LOSSY[1]
    return bool(saturation >= _TINT and (lossless or lossy))


def _beside_tint(image: Any) -> tuple[np.ndarray, float]:
    """How far pixels are from the mean colour of their brightness, in levels, and the median of their saturation.

    The distance is that of black and white if neighbouring levels of brightness have different colours. In a palette of
    few colours, each brightness has one colour too, but it is not a tint.
    """
    from PIL import Image

    step = max(1, int(np.ceil(np.sqrt(image.width * image.height / _MOST_PIXELS))))
    channels = np.asarray(image)[::step, ::step]
    grey = np.asarray(Image.fromarray(channels).convert("L"))
    # A channel at its limit does not follow the tint any more.
    shown = _visible(channels) & (channels.max(axis=-1) < _LIMIT)
    pixels, levels = channels[shown].astype(np.float32), grey[shown]
    counts = np.bincount(levels, minlength=256)
    found = np.flatnonzero(counts)
    if len(found) < _FEWEST_LEVELS:
        return np.full(1, _NO_TINT), 0.0
    sums = np.stack([np.bincount(levels, pixels[:, channel], 256) for channel in range(3)], axis=-1)
    curve = sums / np.maximum(counts, 1)[:, None]
    jumps = np.ptp(np.diff(curve[found] - found[:, None], axis=0), axis=-1) > _STEP + np.diff(found)
    jumping = counts[found[1:]][jumps].sum() > _JUMPING * len(levels)
    away = np.full(1, _NO_TINT) if jumping else np.ptp(pixels - curve[levels], axis=-1)
    return away, float(np.median(_spread(pixels) / np.maximum(pixels.max(axis=-1), 1)))

"""A 2D image (PNG, JPEG) as a scan of one slice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.scan import READ_ERRORS, ReadOptions, Scan, first_line
from monai_zsad.errors import InputError

__all__ = ["SLICE_SUFFIXES", "one_slice", "read_image"]

SLICE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Endings (lower case) of the 2D image files that are read as scans of one slice."""


def read_image(path: Path, options: ReadOptions) -> Scan:
    """Read a grey 2D image; a colour image whose channels are equal counts as grey.

    MONAI's ``PILReader`` was not enough: it keeps palettes and alpha, and reads an image of any size.

    Args:
        path: of the file.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        The scan (columns, rows, 1), with values as stored, shown upright in the axial plane.

    Raises:
        InputError: if the file is damaged, too large, in colour, or has several frames.
    """
    from PIL import Image, ImageOps

    if path.stat().st_size == 0:
        raise refusal(path, "empty-file", "is empty")
    try:
        with Image.open(path) as image:
            options.require_size(path, image.size)
            image.verify()
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise refusal(path, "not-3d", "has several frames", "give each frame as a file of its own")
            # Cameras and scanners may store an image rotated, and state the rotation in EXIF.
            values = _grey(ImageOps.exif_transpose(image), path)
    except Image.DecompressionBombError as error:
        raise refusal(path, "too-large", f"is too large ({first_line(error)})") from error
    except (*READ_ERRORS, SyntaxError) as error:
        if isinstance(error, InputError):
            raise
        raise refusal(path, "damaged", f"cannot be read as an image ({first_line(error)})") from error
    return one_slice(values, None)


def one_slice(values: np.ndarray, spacing: tuple[float, float] | None) -> Scan:
    """A scan of one slice without a position in space, shown upright in the axial plane.

    Args:
        values: (rows, columns).
        spacing: of rows and of columns in mm, or None where lengths are in pixels.

    Returns:
        The scan (columns, rows, 1), with the origin in the first pixel.
    """
    rows, columns = spacing or (1.0, 1.0)
    lengths = "lengths are in pixels" if spacing is None else "lengths are in mm of the detector"
    repair = Repair("no-position", f"a 2D image: its position in space is unknown, and {lengths}")
    affine = np.diag([-columns, -rows, 1.0, 1.0])
    return Scan(np.ascontiguousarray(values.T[..., None], dtype=np.float32), affine, "", [repair])


def _grey(image: Any, path: Path) -> np.ndarray:
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    values = np.asarray(image, dtype=np.float32)
    if values.ndim == 2:
        return values
    channels, alpha = values, None
    if image.mode in ("LA", "RGBA"):
        channels, alpha = values[..., :-1], values[..., -1]
    equal = image.mode in ("LA", "RGB", "RGBA") and (channels == channels[..., :1]).all()
    if not equal or (alpha is not None and alpha.min() < 255):
        raise refusal(path, "colour", "is a colour image or has transparent pixels")
    return channels[..., 0]

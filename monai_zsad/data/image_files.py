"""A 2D picture (PNG, JPEG) as a scan of one slice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair
from monai_zsad.data.scan import READ_ERRORS, ReadOptions, Scan, first_line
from monai_zsad.errors import InputError

__all__ = ["PICTURE_SCAN_SUFFIXES", "one_slice", "read_picture"]

PICTURE_SCAN_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Endings (lower case) of the pictures that are taken as scans of one slice."""


def read_picture(path: Path, options: ReadOptions) -> Scan:
    """Read a grey picture; a colour picture whose channels are equal is grey.

    MONAI's ``PILReader`` keeps palettes and alpha, and reads a picture of any size.

    Args:
        path: of the file.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        The scan (columns, rows, 1), with values as stored, shown upright in the axial plane.

    Raises:
        InputError: damaged, too large, in colour, or animated.
    """
    from PIL import Image, ImageOps

    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty; copy or export it again", code="empty-file")
    try:
        with Image.open(path) as picture:
            options.require_size(path, picture.size)
            picture.verify()
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise InputError(f"{path}: has several frames; give each as its own picture", code="not-3d")
            # Cameras and scanners store a picture lying and say in EXIF how to turn it.
            values = _grey(ImageOps.exif_transpose(picture), path)
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: is too large ({first_line(error)}); crop or resample it", code="too-large"
        ) from error
    except (*READ_ERRORS, SyntaxError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: cannot be read as a picture ({first_line(error)}); copy or export it again", code="damaged"
        ) from error
    return one_slice(values, None)


def one_slice(values: np.ndarray, spacing: tuple[float, float] | None) -> Scan:
    """A scan of one slice without a place in space, shown upright in the axial plane.

    Args:
        values: (rows, columns).
        spacing: of rows and of columns in mm, or None where lengths are in pixels.

    Returns:
        The scan (columns, rows, 1), with the origin in the first pixel.
    """
    rows, columns = spacing or (1.0, 1.0)
    lengths = "lengths are in pixels" if spacing is None else "lengths are in mm of the detector"
    repair = Repair("no-position", f"a 2D picture: its place in space is unknown and {lengths}")
    affine = np.diag([-columns, -rows, 1.0, 1.0])
    return Scan(np.ascontiguousarray(values.T[..., None], dtype=np.float32), affine, "", [repair])


def _grey(picture: Any, path: Path) -> np.ndarray:
    if picture.mode == "P" or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    values = np.asarray(picture, dtype=np.float32)
    if values.ndim == 2:
        return values
    channels, alpha = values, None
    if picture.mode in ("LA", "RGBA"):
        channels, alpha = values[..., :-1], values[..., -1]
    equal = picture.mode in ("LA", "RGB", "RGBA") and (channels == channels[..., :1]).all()
    if not equal or (alpha is not None and alpha.min() < 255):
        raise InputError(
            f"{path}: is a colour or transparent picture; give it with one grey value per pixel", code="colour"
        )
    return channels[..., 0]

"""A 2D image (PNG, JPEG) as a scan of one slice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from monai_zsad.data.codes import Repair, refusal
from monai_zsad.data.formats.colour import as_grey
from monai_zsad.data.scan import READ_ERRORS, ReadOptions, Scan, first_line
from monai_zsad.errors import InputError

__all__ = ["SLICE_SUFFIXES", "check_image", "one_slice", "read_image"]

SLICE_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Endings (lower case) of the 2D image files that are read as scans of one slice."""

# Some programs write 254 for opaque. Beside a transparent border, edges are smoothed over two pixels.
_OPAQUE, _RIM = 250, 2


def read_image(path: Path, options: ReadOptions) -> Scan:
    """Read a 2D image: a grey scan as one slice, also if it was saved in colour, and true colour as three channels.

    MONAI's ``PILReader`` was not enough: it keeps palettes and alpha, and reads an image of any size.

    Args:
        path: of the file.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        The scan (columns, rows, 1), with values as stored, or for true colour (3, columns, rows, 1), RGB from 0 to 255;
        shown upright in the axial plane. Warnings say what was converted.

    Raises:
        InputError: if the file is damaged, too large, has several frames or transparent pixels, or is in colour without
            ``options.colour``.
    """
    from PIL import Image, ImageOps

    if path.stat().st_size == 0:
        raise refusal(path, "empty-file", "is empty")
    repairs: list[Repair] = []
    try:
        with Image.open(path) as image:
            options.require_size(path, image.size)
            image.verify()
        with Image.open(path) as image:
            repairs += _of_the_file(image, path)
            # Cameras and scanners may store an image rotated, and state the rotation in EXIF.
            upright = ImageOps.exif_transpose(image)
            values = _values(upright, path, options, repairs)
    except Image.DecompressionBombError as error:
        raise refusal(path, "too-large", f"is too large ({first_line(error)})") from error
    except (*READ_ERRORS, SyntaxError) as error:
        if isinstance(error, InputError):
            raise
        raise refusal(path, "damaged", f"cannot be read as an image ({first_line(error)})") from error
    scan = one_slice(values, None)
    scan.repairs += repairs
    return scan


def check_image(path: Path, options: ReadOptions) -> list[Repair]:
    """The warnings of a 2D image. It is decoded, because only its pixels show whether it is grey.

    Args:
        path: of the file.
        options: see :class:`~monai_zsad.data.ScanReader`.

    Returns:
        The warnings of :func:`read_image`.

    Raises:
        InputError: as :func:`read_image`.
    """
    return read_image(path, options).repairs


def one_slice(values: np.ndarray, spacing: tuple[float, float] | None) -> Scan:
    """A scan of one slice without a position in space, shown upright in the axial plane.

    Args:
        values: (rows, columns), or in colour (rows, columns, 3).
        spacing: of rows and of columns in mm, or None where lengths are in pixels.

    Returns:
        The scan (columns, rows, 1), in colour (3, columns, rows, 1), with the origin in the first pixel.
    """
    rows, columns = spacing or (1.0, 1.0)
    lengths = "lengths are in pixels" if spacing is None else "lengths are in mm of the detector"
    repair = Repair("no-position", f"a 2D image: its position in space is unknown, and {lengths}")
    affine = np.diag([-columns, -rows, 1.0, 1.0])
    return Scan(np.ascontiguousarray(values.T[..., None], dtype=np.float32), affine, "", [repair])


def _of_the_file(image: Any, path: Path) -> list[Repair]:
    """Warnings about the file of a PIL image that is not decoded yet; files with several frames are refused."""
    repairs: list[Repair] = []
    if getattr(image, "n_frames", 1) > 1:
        if image.format != "MPO":
            raise refusal(path, "not-3d", "has several frames", "give each frame as a file of its own")
        repairs.append(Repair("further-pictures", "the first of several images in a JPEG file was read"))
    # PIL reads 16 bits of a single channel, but only the upper 8 bits of several channels.
    if len(image.getbands()) > 1 and any("16" in str(part[3]) for part in image.tile):
        repairs.append(Repair("colour-converted", "an image with 16 bits per channel was read with 8 bits"))
    return repairs


def _values(image: Any, path: Path, options: ReadOptions, repairs: list[Repair]) -> np.ndarray:
    """Grey values (rows, columns), or colours (rows, columns, 3), of a decoded PIL image; adds warnings."""
    from PIL import Image

    if image.mode in ("P", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
    cover = None
    if image.mode in ("LA", "RGBA"):
        cover = _cover(np.asarray(image.getchannel("A")), path, repairs)
        image = image.convert(image.mode.removesuffix("A"))
    elif len(image.getbands()) > 1 and image.mode != "RGB":
        repairs.append(Repair("colour-converted", f"the colours of an image in {image.mode} were converted to RGB"))
        image = image.convert("RGB")
    if cover is not None:
        image = Image.composite(image, Image.new(image.mode, image.size), Image.fromarray(cover))
    if image.mode != "RGB":
        return np.asarray(image, dtype=np.float32)
    grey = as_grey(image)
    if grey is None and not options.colour:
        finding = "shows true colour, and grey scans are read here"
        raise refusal(path, "colour", finding, "screen it with a bundle that takes colour, such as `--bundle crane`")
    if grey is None:
        return np.asarray(image, dtype=np.float32)
    repairs += grey[1]
    return grey[0].astype(np.float32)


def _cover(alpha: np.ndarray, path: Path, repairs: list[Repair]) -> np.ndarray | None:
    """Opacity (0 to 255) by which an image is laid over black; None if it is opaque everywhere."""
    from scipy import ndimage

    if alpha.min() >= _OPAQUE:
        return None
    parts, _ = ndimage.label(alpha == 0)
    edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    outside = np.isin(parts, edge[edge > 0])
    rim = ndimage.binary_dilation(outside, iterations=_RIM) if outside.any() else outside
    inside = (alpha < _OPAQUE) & ~rim
    if inside.any():
        finding = f"has {int(inside.sum())} transparent pixels inside of the image"
        raise refusal(path, "transparent", finding)
    share = 100 * float(outside.mean())
    repairs.append(
        Repair("transparent-border", f"the transparent border, {share:.1f} % of the image, was read as black")
    )
    return np.where(alpha >= _OPAQUE, 255, alpha).astype(np.uint8)

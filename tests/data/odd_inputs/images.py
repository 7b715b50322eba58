"""2D images: radiographs, PNG, JPEG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image

from tests.data.odd_inputs.catalogue import Odd, Truth, kind, volume_truth
from tests.data.samples import write_series


def radiographs(folder: Path, slices: int, **changes: Any) -> list[Path]:
    plain = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "FrameOfReferenceUID": None}
    sop = "1.2.840.10008.5.1.4.1.1.1.1"
    return write_series(folder, slices=slices, sop_class=sop, modality="DX", **plain, **changes)


def picture_truth(pixels: np.ndarray, rows: float = 1.0, columns: float = 1.0) -> Truth:
    return volume_truth(pixels.T[..., None], np.diag([-columns, -rows, 1, 1]))


@kind("repaired no-position")
def radiograph(folder: Path) -> Odd:
    (file,) = radiographs(folder / "s", 1)
    return Odd(folder / "s", [picture_truth(pydicom.dcmread(file).pixel_array, 0.75, 0.5)])


@kind("repaired no-position")
def two_radiographs_of_one_series(folder: Path) -> Odd:
    files = sorted(radiographs(folder / "s", 2, PixelSpacing=None))
    return Odd(folder / "s", [picture_truth(pydicom.dcmread(file).pixel_array) for file in files])


GREY = np.random.default_rng(5).integers(0, 255, (6, 9)).astype(np.uint8)


@kind("repaired no-position")
def png(folder: Path) -> Odd:
    Image.fromarray(GREY).save(folder / "a.png")
    return Odd(folder, [picture_truth(GREY)])


@kind("repaired no-position")
def png_of_16_bits(folder: Path) -> Odd:
    pixels = GREY.astype(np.uint16) * 200
    Image.fromarray(pixels).save(folder / "a.png")
    return Odd(folder / "a.png", [picture_truth(pixels)])


@kind("repaired no-position")
def png_of_equal_channels(folder: Path) -> Odd:
    Image.fromarray(np.stack([GREY] * 3, axis=-1)).save(folder / "a.png")
    return Odd(folder / "a.png", [picture_truth(GREY)])


@kind("repaired no-position")
def jpeg(folder: Path) -> Odd:
    Image.fromarray(GREY).save(folder / "a.jpg")
    return Odd(folder / "a.jpg", [picture_truth(np.asarray(Image.open(folder / "a.jpg")))])


@kind("repaired no-position")
def jpeg_stored_lying(folder: Path) -> Odd:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(folder / "a.jpg", exif=exif)
    return Odd(folder / "a.jpg", [picture_truth(np.rot90(np.asarray(Image.open(folder / "a.jpg")), -1))])


@kind("refused colour")
def colour_png(folder: Path) -> Odd:
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (6, 9, 3)).astype(np.uint8)).save(folder / "a.png")
    return Odd(folder / "a.png")


@kind("refused damaged")
def truncated_jpeg(folder: Path) -> Odd:
    Image.fromarray(np.tile(GREY, (20, 20))).save(folder / "a.jpg")
    (folder / "a.jpg").write_bytes((folder / "a.jpg").read_bytes()[:-2000])
    return Odd(folder / "a.jpg")


@kind("refused too-large")
def huge_png(folder: Path) -> Odd:
    Image.new("1", (15000, 15000)).save(folder / "a.png")
    return Odd(folder / "a.png")

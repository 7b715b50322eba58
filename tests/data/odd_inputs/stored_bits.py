"""DICOM pixels with bits beside their value: overlays, signs that are not extended, values above BitsStored."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

from tests.data.odd_inputs.catalogue import AXIAL, Odd, Truth, kind, series_truth
from tests.data.odd_inputs.enhanced import enhanced
from tests.data.samples import write_series

ROWS, COLUMNS = 24, 20
Harm = Callable[[np.ndarray], np.ndarray]


def smooth(index: int, low: float = 0.0, high: float = 3000.0) -> np.ndarray:
    """A disk whose values rise evenly, as those of tissue do, over a background of the lowest value."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    disk = (row - 11.5) ** 2 + (column - 9.5) ** 2 < (70 + 5 * index)
    ramp = low + (high - low) * (row + column + index) / (ROWS + COLUMNS + 8)
    return np.asarray(np.where(disk, ramp, low).astype("<i4"))


def twelve_bits(folder: Path, signed: bool, low: float = 0.0, high: float = 3000.0) -> tuple[list[Path], Truth]:
    """A series of 12 bits in 16, and its values."""
    files = write_series(
        folder, slices=5, orientation=AXIAL, Rows=ROWS, Columns=COLUMNS, BitsStored=12, HighBit=11,
        PixelRepresentation=int(signed), PixelData=lambda index: smooth(index, low, high).astype("<i2").tobytes(),
    )  # fmt: skip
    return files, series_truth(files)


def with_overlay(values: np.ndarray) -> np.ndarray:
    """A cross of an overlay in bit 15; signs above BitsStored are lost, as in files of that kind."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    return np.asarray((values & 0x0FFF) | np.where((row == 12) | (column == 7), 0x8000, 0))


def encode(ds: Any, values: np.ndarray, syntax: UID | None) -> None:
    raw = values.astype("<u2")
    ds.PixelData = raw.tobytes()
    if syntax is None:
        return
    if syntax == JPEG2000Lossless:
        stream = io.BytesIO()
        Image.fromarray(raw).save(stream, "JPEG2000", no_jp2=True, irreversible=False, num_resolutions=1)
        ds.PixelData, ds["PixelData"].VR = encapsulate([stream.getvalue()]), "OB"
        ds.file_meta.TransferSyntaxUID = syntax
        return
    stored, high = ds.BitsStored, ds.HighBit
    ds.BitsStored, ds.HighBit = 16, 15
    ds.compress(syntax, raw.view("<i2") if ds.PixelRepresentation else raw, generate_instance_uid=False)
    ds.BitsStored, ds.HighBit = stored, high


def harmed(folder: Path, harm: Harm, syntax: UID | None = None, signed: bool = False, **changes: Any) -> Odd:
    limits = {name: changes.pop(name) for name in ("low", "high") if name in changes}
    files, truth = twelve_bits(folder / "s", signed, **limits)
    for file in files:
        ds = pydicom.dcmread(file)
        encode(ds, harm(ds.pixel_array.astype("<i4")), syntax)
        for key, value in changes.items():
            setattr(ds, key, value)
        ds.save_as(file)
    return Odd(folder / "s", [truth])


def _add(name: str, verdict: str, *options: Any, **changes: Any) -> None:
    def build(folder: Path) -> Odd:
        return harmed(folder, *options, **changes)

    build.__name__ = name
    kind(verdict)(build)


for _name, _syntax in (
    ("uncompressed", None), ("rle", RLELossless), ("jpeg_ls", JPEGLSLossless), ("jpeg_2000", JPEG2000Lossless),
):  # fmt: skip
    # pydicom 2260: a decoder returned the overlay bits as parts of the values.
    _add(f"overlay_bits_{_name}", "repaired bits-removed", with_overlay, _syntax)
    _add(f"overlay_bits_{_name}_signed", "repaired bits-removed", with_overlay, _syntax, signed=True, low=-900)
    _add(f"sign_not_extended_{_name}", "ok", lambda values: values & 0x0FFF, _syntax, signed=True, low=-900)
    _add(f"values_above_bits_stored_{_name}", "refused wrong-bits", lambda values: 3 * values, _syntax)
    _add(f"no_sign_though_stated_{_name}", "refused wrong-bits", lambda values: values + 1000, _syntax, signed=True)

_add("upper_bits_all_set", "repaired bits-removed", lambda values: values | 0xF000)
_add("pixels_in_the_upper_bits", "ok", lambda values: values << 4, HighBit=15)
_add("signed_pixels_in_the_upper_bits", "ok", lambda values: values << 4, signed=True, low=-900, HighBit=15)
_add("more_bits_stored_than_allocated", "refused undecodable", lambda values: values, BitsStored=17, HighBit=16)


@kind("ok")
def overlay_bits_that_the_header_states(folder: Path) -> Odd:
    odd = harmed(folder, with_overlay, signed=True, low=-900)
    for file in (folder / "s").iterdir():
        ds = pydicom.dcmread(file)
        ds.add_new((0x6000, 0x0100), "US", 16)
        ds.add_new((0x6000, 0x0102), "US", 15)
        ds.save_as(file)
    return odd


@kind("repaired bits-removed")
def overlay_bits_in_frames(folder: Path) -> Odd:
    truth = enhanced(folder / "e", [6, 0, 3, 12, 9])
    ds = pydicom.dcmread(folder / "e")
    pixels = ds.pixel_array.astype("<u2")
    pixels[:, 3] |= 0x8000
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.PixelData = 12, 11, 0, pixels.tobytes()
    pydicom.dcmwrite(folder / "e", ds)
    return Odd(folder, [truth])


def signed_streams(folder: Path, shift: int) -> Odd:
    """pydicom 1149: the JPEG 2000 stream says that its values are signed, the header says that they are not."""
    odd = harmed(folder, lambda values: values)
    for file in (folder / "s").iterdir():
        ds = pydicom.dcmread(file)
        stream = io.BytesIO()
        shifted = (ds.pixel_array.astype("<i4") + shift).astype("<u2")
        Image.fromarray(shifted).save(
            stream, "JPEG2000", no_jp2=True, irreversible=False, num_resolutions=1, signed=True
        )
        ds.PixelData, ds["PixelData"].VR = encapsulate([stream.getvalue()]), "OB"
        ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
        ds.save_as(file)
    return odd


@kind("ok")
def signed_jpeg_2000_of_unsigned_pixels(folder: Path) -> Odd:
    return signed_streams(folder, 0)


@kind("refused undecodable")
def negative_jpeg_2000_of_unsigned_pixels(folder: Path) -> Odd:
    return signed_streams(folder, -1500)

"""DICOM with padding outside of the field of view, which must become background, and tissue that must not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from tests.data.odd_inputs.catalogue import AXIAL, Odd, Truth, kind, series_truth
from tests.data.samples import CT, write_series

ROWS, COLUMNS, SLICES = 24, 20, 5
ROW, COLUMN = np.mgrid[:ROWS, :COLUMNS]
OUTSIDE = (ROW - 11.5) ** 2 / 144 + (COLUMN - 9.5) ** 2 / 100 > 1
Values = Callable[[int], np.ndarray]


def tissue(low: float, high: float) -> Values:
    """A body of rising values over a background of the lowest value."""
    inside = (ROW - 11.5) ** 2 + (COLUMN - 9.5) ** 2 < 60
    ramp = (ROW + 2 * COLUMN) / (ROWS + 2 * COLUMNS)
    return lambda index: np.where(inside, low + (high - low) * (0.1 + 0.8 * ramp + 0.02 * index), low).astype("<i4")


def padded(
    folder: Path,
    values: Values,
    padding: int | Sequence[int],
    stated: Sequence[tuple[str, str, int]],
    fill: float | None,
    signed: bool = False,
    implicit: bool = False,
    mask: np.ndarray = OUTSIDE,
    **changes: Any,
) -> Odd:
    """A series whose padding must get the value ``fill``, or keep its own for None."""
    pixels = [values(index) for index in range(SLICES)]
    for index, one in enumerate(pixels):
        one[mask] = padding if isinstance(padding, int) else padding[index % len(padding)]
    files = write_series(
        folder / "s", slices=SLICES, orientation=AXIAL, Rows=ROWS, Columns=COLUMNS, PixelRepresentation=int(signed),
        PixelData=lambda index: pixels[index].astype("<u2").tobytes(), **changes,
    )  # fmt: skip
    places, found = series_truth(files)
    if fill is not None:
        found = np.where(np.tile(mask.reshape(-1), SLICES), np.float32(fill), found)
    for file in files:
        ds = pydicom.dcmread(file)
        for name, vr, value in stated:
            ds.add_new(Tag(name), vr, value)
        if implicit:
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        pydicom.dcmwrite(file, ds, implicit_vr=implicit, little_endian=True)
    truth: Truth = (places, found)
    return Odd(folder / "s", [truth])


VALUE, LIMIT = "PixelPaddingValue", "PixelPaddingRangeLimit"
MR_VALUES, CT_VALUES = tissue(40, 1500), tissue(-1000, 1200)
HU = {"sop_class": CT, "modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0}
OFFSET = {"sop_class": CT, "modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}

# vtk-dicom 173 and 128; fo-dicom 406.
PADDING: dict[str, tuple[str, dict[str, Any]]] = {
    "padding_of_mr": ("repaired padding-replaced", {
        "values": MR_VALUES, "padding": 65535, "stated": [(VALUE, "US", 65535)], "fill": 40,
    }),
    "padding_of_mr_above_its_bits": ("repaired padding-replaced", {
        "values": MR_VALUES, "padding": 65535, "stated": [(VALUE, "US", 65535)], "fill": 40,
        "BitsStored": 12, "HighBit": 11,
    }),
    "padding_of_mr_cut_to_its_bits": ("repaired padding-replaced", {
        "values": MR_VALUES, "padding": 4095, "stated": [(VALUE, "US", 65535)], "fill": 40,
        "BitsStored": 12, "HighBit": 11,
    }),
    "padding_of_mr_in_the_implicit_form": ("repaired padding-replaced", {
        "values": MR_VALUES, "padding": 65535, "stated": [(VALUE, "US", 65535)], "fill": 40, "implicit": True,
    }),
    "padding_of_mr_below_its_noise": ("ok", {
        "values": MR_VALUES, "padding": 0, "stated": [(VALUE, "US", 0)], "fill": None,
    }),
    "padding_stated_and_absent": ("ok", {
        "values": MR_VALUES, "padding": 40, "stated": [(VALUE, "US", 65535)], "fill": None,
    }),
    "padding_of_ct": ("repaired padding-replaced", {
        "values": CT_VALUES, "padding": -2000, "stated": [(VALUE, "SS", -2000)], "fill": -1000, "signed": True, **HU,
    }),
    "padding_of_signed_ct_stated_unsigned": ("repaired padding-replaced", {
        "values": CT_VALUES, "padding": -2000, "stated": [(VALUE, "US", 63536)], "fill": -1000, "signed": True, **HU,
    }),
    "padding_of_signed_ct_in_the_implicit_form": ("repaired padding-replaced", {
        "values": CT_VALUES, "padding": -2000, "stated": [(VALUE, "US", 63536)], "fill": -1000, "signed": True,
        "implicit": True, **HU,
    }),
    "padding_of_unsigned_ct_stated_signed": ("repaired padding-replaced", {
        "values": tissue(24, 2200), "padding": 63536, "stated": [(VALUE, "SS", -2000)], "fill": -1000, **OFFSET,
    }),
    "padding_of_ct_without_air": ("repaired padding-replaced", {
        "values": tissue(-100, 300), "padding": -2000, "stated": [(VALUE, "SS", -2000)], "fill": -1000, "signed": True,
        **HU,
    }),
    "padding_of_ct_with_a_range": ("repaired padding-replaced", {
        "values": CT_VALUES, "padding": [-3024, -2000, -2500], "fill": -1000, "signed": True,
        "stated": [(VALUE, "SS", -3024), (LIMIT, "SS", -1500)], **HU,
    }),
    "padding_of_ct_of_its_air": ("ok", {
        "values": CT_VALUES, "padding": -1024, "stated": [(VALUE, "SS", -1024)], "fill": None, "signed": True, **HU,
    }),
    "padding_of_ct_like_water": ("repaired padding-replaced", {
        "values": CT_VALUES, "padding": 0, "stated": [(VALUE, "SS", 0)], "fill": -1000, "signed": True, **HU,
    }),
    "padding_like_tissue_inside": ("ok", {
        "values": MR_VALUES, "padding": 700, "stated": [(VALUE, "US", 700)], "fill": None,
        "mask": (ROW > 9) & (ROW < 14) & (COLUMN > 7) & (COLUMN < 12),
    }),
    "padding_like_a_bright_vessel": ("ok", {
        "values": tissue(40, 4500), "padding": 4095, "stated": [(VALUE, "US", 4095)], "fill": None,
        "mask": (ROW > 9) & (ROW < 14) & (COLUMN > 7) & (COLUMN < 12),
    }),
}  # fmt: skip


def _add_padding(name: str, verdict: str, options: dict[str, Any]) -> None:
    def build(folder: Path) -> Odd:
        return padded(folder, **options)

    build.__name__ = name
    kind(verdict)(build)


for _name, (_verdict, _options) in PADDING.items():
    _add_padding(_name, _verdict, _options)


@kind("repaired padding-replaced")
def padding_in_compressed_pixels(folder: Path) -> Odd:
    odd = padded(folder, MR_VALUES, 65535, [(VALUE, "US", 65535)], 40)
    for file in (folder / "s").iterdir():
        ds = pydicom.dcmread(file)
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.save_as(file)
    return odd


@kind("repaired padding-replaced")
def padding_with_a_rescale_of_each_slice(folder: Path) -> Odd:
    """The padding is a stored value: after the rescale it differs from slice to slice."""
    return padded(
        folder, MR_VALUES, 32767, [(VALUE, "US", 32767)], 35, signed=True,
        RescaleSlope=lambda index: 1 + 0.5 * index, RescaleIntercept=-5,
    )  # fmt: skip

"""DICOM headers whose numbers are malformed texts: labels, which decide nothing, and values and positions, which do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian

from tests.data.odd_inputs.catalogue import AXIAL, Odd, kind, series_truth
from tests.data.odd_inputs.enhanced import enhanced
from tests.data.samples import CT, write_series


def set_text(ds: pydicom.Dataset, keyword: str, text: bytes, implicit: bool = False) -> None:
    """Store the text as it is, which pydicom does not do for an element that it has converted."""
    tag = Tag(keyword)
    vr = None if implicit else pydicom.datadict.dictionary_VR(tag)
    text += b" " * (len(text) % 2)
    ds[tag] = RawDataElement(tag, vr, len(text), text, 0, implicit, True)


def texts(folder: Path, change: dict[str, Callable[[pydicom.Dataset], bytes] | bytes], implicit: bool = False) -> Odd:
    """A CT series with such texts in all its files."""
    files = write_series(
        folder / "s", orientation=AXIAL, sop_class=CT, modality="CT",
        RescaleSlope=lambda index: 1.5, RescaleIntercept=-1023.5,
    )  # fmt: skip
    truth = series_truth(files)
    for file in files:
        ds = pydicom.dcmread(file)
        if implicit:
            ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            pydicom.dcmwrite(file, ds, implicit_vr=True, little_endian=True)
            ds = pydicom.dcmread(file)
        for keyword, text in change.items():
            set_text(ds, keyword, text(ds) if callable(text) else text, implicit)
        pydicom.dcmwrite(file, ds, implicit_vr=implicit, little_endian=True)
    return Odd(folder / "s", [truth])


def commas(keyword: str) -> Callable[[pydicom.Dataset], bytes]:
    def text(ds: pydicom.Dataset) -> bytes:
        value = ds[keyword].value
        values = value if isinstance(value, pydicom.multival.MultiValue) else [value]
        return "\\".join(f"{float(one):.4f}".replace(".", ",") for one in values).encode()

    return text


# pydicom 1661 and 1643; fo-dicom 1915 and 1296.
TEXTS: dict[str, tuple[str, dict[str, Callable[[pydicom.Dataset], bytes] | bytes]]] = {
    "series_number_with_a_letter": ("ok", {"SeriesNumber": b"3A"}),
    "two_series_numbers": ("ok", {"SeriesNumber": b"3\\1"}),
    "series_number_with_a_fraction": ("ok", {"SeriesNumber": b"3.5"}),
    "instance_numbers_with_letters": ("ok", {"InstanceNumber": b"IM 7"}),
    "two_acquisition_numbers": ("ok", {"AcquisitionNumber": b"1\\2"}),
    "acquisition_number_with_a_letter": ("ok", {"AcquisitionNumber": b"a"}),
    "malformed_slice_location": ("ok", {"SliceLocation": b"--"}),
    "malformed_voltage": ("ok", {"KVP": b"120 kV"}),
    "malformed_echo": ("ok", {"EchoNumbers": b"one", "EchoTime": b"short"}),
    "malformed_window": ("ok", {"WindowCenter": b"40HU", "WindowWidth": b"4oo"}),
    "commas_in_spacing": ("repaired decimal-commas", {"PixelSpacing": commas("PixelSpacing")}),
    "commas_in_positions": ("repaired decimal-commas", {"ImagePositionPatient": commas("ImagePositionPatient")}),
    "commas_in_orientations": (
        "repaired decimal-commas", {"ImageOrientationPatient": commas("ImageOrientationPatient")}
    ),
    "commas_in_rescale": (
        "repaired decimal-commas",
        {"RescaleSlope": commas("RescaleSlope"), "RescaleIntercept": commas("RescaleIntercept")},
    ),
    "commas_everywhere": (
        "repaired decimal-commas",
        {
            key: commas(key)
            for key in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope")
        }
        | {"KVP": b"120,0", "SliceThickness": b"2,5"},
    ),
    "comma_that_may_separate_thousands": ("refused bad-rescale", {"RescaleIntercept": b"-1,024"}),
    "comma_between_two_spacings": ("refused no-geometry", {"PixelSpacing": b"0.75,0.5"}),
    "one_spacing_with_a_comma": ("refused no-geometry", {"PixelSpacing": b"0,5"}),
    "commas_between_coordinates": ("refused no-geometry", {"ImagePositionPatient": b"1,2,3"}),
    "malformed_position": ("refused no-geometry", {"ImagePositionPatient": b"left\\7\\40"}),
    "malformed_spacing": ("refused no-geometry", {"PixelSpacing": b"0.75mm\\0.5mm"}),
    "two_slopes": ("refused bad-rescale", {"RescaleSlope": b"1\\2"}),
    "malformed_slope": ("refused bad-rescale", {"RescaleSlope": b"one"}),
}  # fmt: skip


def _add_texts(name: str, verdict: str, change: dict[str, Callable[[pydicom.Dataset], bytes] | bytes]) -> None:
    for implicit in (False, True) if verdict != "ok" or "series" in name else (False,):

        def build(folder: Path, implicit: bool = implicit) -> Odd:
            return texts(folder, change, implicit)

        build.__name__ = f"{name}_in_the_implicit_form" if implicit else name
        kind(verdict)(build)


for _name, (_verdict, _change) in TEXTS.items():
    _add_texts(_name, _verdict, _change)


@kind("repaired decimal-commas")
def commas_in_frames(folder: Path) -> Odd:
    truth = enhanced(folder / "e", [6, 0, 3, 12, 9])
    ds = pydicom.dcmread(folder / "e")
    set_text(ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], "PixelSpacing", b"0,75\\0,5")
    for frame in ds.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        set_text(place, "ImagePositionPatient", commas("ImagePositionPatient")(place))
    pydicom.dcmwrite(folder / "e", ds)
    return Odd(folder, [truth])


@kind("refused no-geometry")
def malformed_position_of_a_frame(folder: Path) -> Odd:
    truth = enhanced(folder / "e", [6, 0, 3, 12, 9])
    ds = pydicom.dcmread(folder / "e")
    set_text(ds.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0], "ImagePositionPatient", b"0\\x\\3")
    pydicom.dcmwrite(folder / "e", ds)
    return Odd(folder, [truth])

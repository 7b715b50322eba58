"""Files, names and data sets as people reported them to the makers of other tools; each kind names the report."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.data.odd_inputs.catalogue import AXIAL, Odd, kind, series_truth
from tests.data.odd_inputs.enhanced import changed_frames
from tests.data.odd_inputs.nifti import nifti
from tests.data.samples import write_series

APPLE_DOUBLE = bytes([0, 5, 22, 7, 0, 2, 0, 0]) + b"Mac OS X        " + bytes(58)


def rewritten(folder: Path, change: Callable[[bytes], bytes], **fields: object) -> Odd:
    """A series whose files were changed byte by byte; its values are those before."""
    files = write_series(folder / "s", **fields)
    truth = series_truth(files)
    for file in files:
        file.write_bytes(change(file.read_bytes()))
    return Odd(folder / "s", [truth])


def longer_pixels(extra: bytes) -> Callable[[bytes], bytes]:
    """Pixel data with bytes at its end that belong to the element."""

    def change(whole: bytes) -> bytes:
        at = whole.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
        (length,) = struct.unpack("<L", whole[at : at + 4])
        return whole[:at] + struct.pack("<L", length + len(extra)) + whole[at + 4 :] + extra

    return change


@kind("ok")
def pixels_with_padding(folder: Path) -> Odd:
    """Pydicom 796: more bytes than pixels, as older writers pad them."""
    return rewritten(folder, longer_pixels(bytes(6)))


@kind("ok")
def odd_number_of_bytes_without_padding(folder: Path) -> Odd:
    """Pydicom 866: 35 pixels of 8 bits, and no byte that makes their length even."""

    def change(whole: bytes) -> bytes:
        at = whole.index(b"\xe0\x7f\x10\x00") + 8
        return whole[:at] + struct.pack("<L", 35) + whole[at + 4 :][:35]

    fields = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    return rewritten(folder, change, PixelData=lambda i: bytes(range(i, i + 36)), **fields)


@kind("refused undecodable")
def frames_without_their_number(folder: Path) -> Odd:
    """Pydicom 2035: pixels of two frames, and no NumberOfFrames, so that readers take the first one."""
    write_series(folder / "s", orientation=AXIAL, PixelData=lambda i: np.arange(70, dtype="<i2").tobytes())
    return Odd(folder / "s")


@kind("ok")
def padding_after_the_pixels(folder: Path) -> Odd:
    """vtk-dicom 125: the element DataSetTrailingPadding."""
    return rewritten(folder, lambda whole: whole + b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<L", 20) + bytes(20))


@kind("ok")
def zeros_after_the_data_set(folder: Path) -> Odd:
    """fo-dicom 763: a file that was filled up with zeros to a whole block."""
    return rewritten(folder, lambda whole: whole + bytes(-len(whole) % 512))


@kind("ok")
def delimiter_after_the_data_set(folder: Path) -> Odd:
    """fo-dicom 1958: an item delimiter that closes nothing."""
    return rewritten(folder, lambda whole: whole + b"\xfe\xff\x0d\xe0\0\0\0\0")


@kind("refused undecodable")
def pixels_longer_than_their_element(folder: Path) -> Odd:
    """dicom-rs 448: the length of the pixel data is too small, and pixels are read as further elements."""

    def change(whole: bytes) -> bytes:
        at = whole.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
        return whole[:at] + struct.pack("<L", 40) + whole[at + 4 :]

    return Odd(rewritten(folder, change).source)


@kind("ok")
def values_above_32767(folder: Path) -> Odd:
    """dcm2niix 251: unsigned values that do not fit into signed ones."""
    files = write_series(
        folder / "s", PixelRepresentation=0, PixelData=lambda i: (np.arange(35) * 1800 + i).astype("<u2").tobytes()
    )
    return Odd(folder / "s", [series_truth(files)])


@kind("ok")
def pixels_of_32_bits(folder: Path) -> Odd:
    """Horos 614: derived MR of 32 bits."""
    bits = {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31, "PixelRepresentation": 0}
    files = write_series(folder / "s", PixelData=lambda i: (np.arange(35) * 70001 + i).astype("<u4").tobytes(), **bits)
    return Odd(folder / "s", [series_truth(files)])


@kind("ok")
def explicit_syntax_over_an_implicit_data_set(folder: Path) -> Odd:
    """Pydicom 1943: the file meta information names the other way of writing the value representations."""
    files = write_series(folder / "s")
    truth = series_truth(files)
    for file in files:
        ds = pydicom.dcmread(file)
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        pydicom.dcmwrite(file, ds, implicit_vr=True, little_endian=True)
        whole = file.read_bytes()
        old, new = (uid.encode() + b"\0" * (len(uid) % 2) for uid in (ImplicitVRLittleEndian, ExplicitVRLittleEndian))
        at = whole.index(b"\2\0\x10\0UI")
        part = b"\2\0\x10\0UI" + struct.pack("<H", len(new)) + new
        file.write_bytes(whole[:at] + part + whole[at + 8 + len(old) :])
    return Odd(folder / "s", [truth])


@kind("ok")
def private_pixels_and_group_lengths(folder: Path) -> Odd:
    """DICOM PS3.5 7.2 and 7.8: group lengths of older files, and private elements that look like pixel data."""
    files = write_series(folder / "s")
    truth = series_truth(files)
    for file in files:
        ds = pydicom.dcmread(file)
        for group in (0x0008, 0x0020, 0x0028):
            ds.add_new((group, 0), "UL", 4711)
        block = ds.private_block(0x7FE1, "SIEMENS MEDCOM", create=True)
        block.add_new(0x10, "OB", b"\xe0\x7f\x10\x00OW\0\0\x46\0\0\0" + bytes(70))
        pydicom.dcmwrite(file, ds)
    return Odd(folder / "s", [truth])


@kind("ok")
def names_in_other_scripts(folder: Path) -> Odd:
    """SimpleITK 1255 and 795, vtk-dicom 212: names with umlauts, Chinese characters, spaces and quotes."""
    there = folder / "Sättiger Bauchdecke 肺结节 'x' & #1 100%"
    files = write_series(there, prefix="Schicht · ")
    return Odd(folder, [series_truth(files)])


@kind("ok")
def nifti_in_a_folder_with_an_accent(folder: Path) -> Odd:
    """CTK 404: an accent that is a character of its own."""
    (folder / "CT2 te\u0302te").mkdir()
    _, truth = nifti(folder / "CT2 te\u0302te", "肺结节 Mask no.1.nii.gz")
    return Odd(folder, [truth])


@kind("ok")
def files_of_macos_beside(folder: Path) -> Odd:
    """TI-Toolbox 133: AppleDouble files beside every slice and every volume."""
    files = write_series(folder / "s")
    _, truth = nifti(folder, "n.nii.gz")
    for file in [*files, folder / "n.nii.gz"]:
        (file.parent / f"._{file.name}").write_bytes(APPLE_DOUBLE)
    (folder / "s" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    return Odd(folder, [truth, series_truth(files)])


@kind("ok")
def archive_of_macos(folder: Path) -> Odd:
    """The same in a zip file, where they lie in a folder __MACOSX."""
    files = write_series(folder / "s")
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        for file in files:
            archive.write(file, f"Schädel/{file.name}")
            archive.writestr(f"__MACOSX/Schädel/._{file.name}", APPLE_DOUBLE)
    return Odd(folder / "z.zip", [series_truth(files)])


@kind("ok")
def archive_with_names_of_windows(folder: Path) -> Odd:
    """7-Zip and older Windows: names in code page 850, without the flag of UTF-8, separated by backslashes."""
    files = write_series(folder / "s")
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        for file in files:
            archive.writestr(f"Sch\u201edel\\{file.name}".replace("\u201e", "_"), file.read_bytes())
    raw = (folder / "z.zip").read_bytes().replace(b"Sch_del", b"Sch\x84del")
    (folder / "z.zip").write_bytes(raw)
    return Odd(folder / "z.zip", [series_truth(files)])


@kind("refused undecodable")
def pixel_data_of_no_length(folder: Path) -> Odd:
    """DICOM PS3.3 C.7.6.3: an element PixelData without any byte."""
    write_series(folder / "s", orientation=AXIAL, PixelData=lambda i: b"" if i == 2 else b"\1\2" * 35)
    return Odd(folder / "s")


def float_pixels(ds: Dataset, values: np.ndarray) -> None:
    for key in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(ds, key)
    ds.BitsAllocated, ds.FloatPixelData = 32, values.astype("<f4").tobytes()


@kind("ok")
def pixels_as_floating_point_numbers(folder: Path) -> Odd:
    """highdicom 436: FloatPixelData, without the fields that only integers have."""
    files = write_series(folder / "s")
    places, values = series_truth(files)
    for file in files:
        ds = pydicom.dcmread(file)
        float_pixels(ds, ds.pixel_array / 8)
        pydicom.dcmwrite(file, ds)
    return Odd(folder / "s", [(places, values / 8)])


def shortened(folder: Path, tag: bytes, shorter: bytes) -> Odd:
    """A series in which an element of the third slice lost a byte of its binary number."""
    files = write_series(folder / "s", SmallestImagePixelValue=7)
    truth = series_truth(files)
    whole = files[2].read_bytes()
    at = whole.index(tag)
    files[2].write_bytes(whole[:at] + tag[:6] + struct.pack("<H", len(shorter)) + shorter + whole[at + 10 :])
    return Odd(folder / "s", [truth])


@kind("ok")
def label_of_an_odd_length(folder: Path) -> Odd:
    """Pydicom 1661, for binary numbers: a number that decides nothing has one byte instead of two."""
    return shortened(folder, b"\x28\0\x06\x01SS", b"\7")


@kind("refused damaged")
def rows_of_an_odd_length(folder: Path) -> Odd:
    """The same for the number of rows, which decides everything."""
    return Odd(shortened(folder, b"\x28\0\x10\0US", b"\7").source)


@kind("refused bad-rescale")
def rescale_of_some_slices_only(folder: Path) -> Odd:
    """vtk-dicom 200: MR may state a rescale; where a slice lacks it, its values are on another scale."""
    fields = {"RescaleSlope": lambda i: 4 if i != 2 else "", "RescaleIntercept": lambda i: 3 if i != 2 else ""}
    write_series(folder / "s", orientation=AXIAL, **fields)
    return Odd(folder / "s")


@kind("ok")
def rescale_of_one_for_some_slices(folder: Path) -> Odd:
    """The same with a slope of 1 and an intercept of 0, which change nothing."""
    files = write_series(folder / "s", RescaleSlope=lambda i: 1 if i % 2 else "", RescaleIntercept=0)
    truth = series_truth([file for file in files if pydicom.dcmread(file).RescaleSlope])
    rest = [file for file in files if not pydicom.dcmread(file).RescaleSlope]
    for file in rest:
        ds = pydicom.dcmread(file)
        del ds.RescaleSlope
        pydicom.dcmwrite(file, ds)
    other = series_truth(rest)
    return Odd(folder / "s", [(np.concatenate([truth[0], other[0]]), np.concatenate([truth[1], other[1]]))])


@kind("refused bad-rescale")
def one_frame_without_rescale(folder: Path) -> Odd:
    """The same in an enhanced file."""
    return changed_frames(folder, lambda _, frame: delattr(frame, "PixelValueTransformationSequence"))


@kind("ok")
def slopes_of_tau_pet(folder: Path) -> Odd:
    """dcm2niix 978: slopes near 1e-8 that differ from slice to slice."""
    files = write_series(
        folder / "s", modality="PT", RescaleSlope=lambda i: f"{1.02609 + i / 9:.5f}e-08", RescaleIntercept=0
    )
    return Odd(folder / "s", [series_truth(files)])

"""Pixels of DICOM files: values as highdicom gives them, padding of 2D images and frames, the checks without pixels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, RLELossless

from monai_zsad.data.dicom import check_dicom, read_dicom
from monai_zsad.data.dicom.pixels.stored_bits import correct_bits
from monai_zsad.data.scan import ReadOptions
from monai_zsad.errors import InputError
from tests.data.odd_inputs import CATALOGUE
from tests.data.odd_inputs.catalogue import AXIAL
from tests.data.odd_inputs.enhanced import enhanced
from tests.data.samples import CT, write_series

DX = "1.2.840.10008.5.1.4.1.1.1.1"
# Only decoded pixels show these.
OF_PIXELS = {"undecodable", "wrong-bits", "constant", "non-finite", "no-codec"}


def with_highdicom(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Values and affine as highdicom gives them, with the axes of a scan."""
    datasets = [pydicom.dcmread(file) for file in files]
    volume = highdicom.image.get_volume_from_series(datasets, dtype=np.float32, apply_presentation_lut=False)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine[:, [2, 1, 0, 3]]
    affine[:, 3] += affine[:, 2] * (len(files) - 1)
    affine[:, 2] *= -1
    return volume.array[::-1].transpose(2, 1, 0), affine


@pytest.mark.parametrize("kind", ["slope", "table", "wide", "byte"])
def test_values_are_those_of_highdicom(tmp_path, kind):
    rng = np.random.default_rng(2)
    wide = rng.integers(-(2**30), 2**30, (6, 7, 5)).astype("<i4")
    byte = rng.integers(0, 256, (6, 7, 5)).astype("u1")
    options: dict[str, dict[str, Any]] = {
        "slope": {"RescaleSlope": lambda index: 0.1 * (index + 1), "RescaleIntercept": -0.3},
        "table": {"PixelData": lambda index: rng.integers(-40, 60, (7, 5)).astype("<i2").tobytes()},
        "wide": {
            "BitsAllocated": 32, "BitsStored": 32, "HighBit": 31, "RescaleSlope": 0.37, "RescaleIntercept": 11.1,
            "PixelData": lambda index: wide[index].tobytes(),
        },
        "byte": {
            "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0,
            "PixelData": lambda index: byte[index].tobytes() + b"\0",
        },
    }  # fmt: skip
    files = write_series(tmp_path, **options[kind])
    for file in files if kind == "table" else ():
        ds, table = pydicom.dcmread(file), Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [50, 0, 16], "US"
        table.LUTData = [7 * index * index for index in range(50)]
        table["LUTData"].VR = "US"
        ds.ModalityLUTSequence = [table]
        ds.save_as(file)
    values, affine = with_highdicom(files)
    scan = read_dicom(files)
    np.testing.assert_array_equal(scan.values, values)
    np.testing.assert_allclose(scan.affine, affine, atol=1e-9)
    assert scan.values.flags.c_contiguous


def test_a_real_series_is_read_as_by_highdicom(shared):
    files = sorted((shared / "data" / "dicom_vs_seg_001").glob("*.dcm"))
    order = sorted(files, key=lambda file: float(pydicom.dcmread(file, stop_before_pixels=True).SliceLocation))
    some = [order[index] for index in (3, 0, 2, 4, 1)]
    np.testing.assert_array_equal(read_dicom(some).values, with_highdicom(some)[0])


@pytest.mark.parametrize(("photometric", "padding", "fill"), [("MONOCHROME2", 65535, 100), ("MONOCHROME1", 65535, 100)])
def test_padding_of_a_projection(tmp_path, photometric, padding, fill):
    """MONOCHROME1 values are not inverted, so that their background is the lowest value, too."""
    pixels = np.linspace(100, 2000, 20 * 16).reshape(20, 16).astype("<u2")
    pixels[:, :3] = padding
    (file,) = write_series(
        tmp_path, slices=1, sop_class=DX, modality="DX", PixelRepresentation=0, Rows=20, Columns=16,
        PhotometricInterpretation=photometric, PixelData=pixels.tobytes(), ImagePositionPatient=None,
        ImageOrientationPatient=None,
    )  # fmt: skip
    ds = pydicom.dcmread(file)
    ds.add_new("PixelPaddingValue", "US", padding)
    ds.save_as(file)
    scan = read_dicom([file])
    low = pixels[:, 3:].min()
    assert low >= fill
    assert "padding-replaced" in scan.warning_codes
    np.testing.assert_array_equal(scan.values[..., 0].T, np.where(pixels == padding, low, pixels))


def test_padding_of_frames_is_compared_before_their_rescale(tmp_path):
    places, values = enhanced(tmp_path / "e", [6, 0, 3, 12, 9])
    ds = pydicom.dcmread(tmp_path / "e")
    pixels = ds.pixel_array.copy()
    pixels[:, 0] = -32768
    ds.PixelData = pixels.tobytes()
    ds.add_new("PixelPaddingValue", "US", 32768)
    pydicom.dcmwrite(tmp_path / "e", ds)
    scan = read_dicom([tmp_path / "e"])
    assert scan.warning_codes == ["padding-replaced"]
    frames = values.reshape(5, 7, 5)
    expected = frames.copy()
    expected[:, 0] = frames[:, 1:].min()
    order = np.argsort(places[::35, 2])
    np.testing.assert_array_equal(scan.values, expected[order].transpose(2, 1, 0))


def test_padding_is_not_mixed_into_interpolated_slices(tmp_path):
    pixels = np.full((4, 7, 5), 500, "<i2") + np.arange(35, dtype="<i2").reshape(7, 5)
    pixels[:, 0] = 32767
    files = write_series(
        tmp_path, slices=4, orientation=AXIAL, PixelData=lambda index: pixels[index].tobytes(),
        ImagePositionPatient=lambda index: [0, 0, 3.0 * (index + (index > 1))],
    )  # fmt: skip
    for file in files:
        ds = pydicom.dcmread(file)
        ds.add_new("PixelPaddingValue", "SS", 32767)
        ds.save_as(file)
    scan = read_dicom(files, ReadOptions(repair=frozenset({"missing-slices"})))
    assert sorted(scan.warning_codes) == ["padding-replaced", "slices-interpolated"]
    assert scan.values.max() == pixels[:, 1:].max()


def test_rle_rows_that_share_a_run(tmp_path):
    """A run of 70 zeros spans all rows; pydicom and Pillow read it, and each segment has a byte of its own."""
    (file,) = write_series(tmp_path, slices=1)
    ds = pydicom.dcmread(file)
    segments = [bytes([256 - 34, 1]), bytes([256 - 33, 7, 0, 9])]
    header = np.zeros(16, "<u4")
    header[:3] = 2, 64, 66
    ds.PixelData = encapsulate([header.tobytes() + b"".join(segments)])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = UID(RLELossless)
    ds.save_as(file)
    values = read_dicom([file]).values
    assert values[4, 6, 0] == 256 + 9
    assert np.count_nonzero(values == 256 + 7) == 34


def test_bits_are_left_alone_where_they_fit():
    pixels = np.array([[-2048, 2047], [0, -1]], dtype="<i2")
    kept, removed = correct_bits(pixels, 12)
    assert not removed
    np.testing.assert_array_equal(kept, pixels)


def refused(function, files: list[Path], options: ReadOptions) -> str:
    try:
        function(files, options)
    except InputError as error:
        return error.code
    return ""


REFUSED = [
    name
    for name, case in CATALOGUE.items()
    if case.verdict.startswith("refused")
    and case.build.__module__.rpartition(".")[2] in ("series", "enhanced", "labels", "stored_bits", "several_volumes")
]


@pytest.mark.parametrize("name", REFUSED[::3])
def test_the_check_without_pixels_gives_the_verdict_of_reading(tmp_path, name):
    odd = CATALOGUE[name].build(tmp_path)
    files = sorted(file for file in tmp_path.rglob("*") if file.is_file())
    accept, repair = (frozenset(np.atleast_1d(odd.options.get(key, ())).tolist()) for key in ("accept", "repair"))
    options = ReadOptions(accept=accept, repair=repair)
    read, checked = refused(read_dicom, files, options), refused(check_dicom, files, options)
    assert checked == read or (not checked and read in OF_PIXELS)


CHECK = """
import sys
from pathlib import Path
from monai_zsad.data.dicom import check_dicom, read_dicom
files = sorted(Path(sys.argv[1]).iterdir())
print([repair.code for repair in check_dicom(files)])
print(read_dicom(files).values.shape)
print(sorted({"torch", "monai", "highdicom"} & {*sys.modules}))
"""


def test_reading_imports_neither_torch_nor_monai(tmp_path):
    write_series(tmp_path, sop_class=CT, modality="CT", PhotometricInterpretation="MONOCHROME1")
    done = subprocess.run([sys.executable, "-c", CHECK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['monochrome1']", "(5, 7, 6)", "[]"]


def test_a_file_that_cannot_be_decoded_is_named(tmp_path):
    files = write_series(tmp_path, slices=9)
    for file in files:
        ds = pydicom.dcmread(file)
        ds.compress(RLELossless, generate_instance_uid=False)
        ds.save_as(file)
    ds = pydicom.dcmread(files[4])
    ds.PixelData = encapsulate([b"\0" * 80])
    ds.save_as(files[4])
    assert check_dicom(files) == []
    with pytest.raises(InputError, match=files[4].name) as caught:
        read_dicom(files)
    assert caught.value.code == "undecodable"

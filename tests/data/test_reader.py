from __future__ import annotations

import gzip

import itk
import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import ITKReader
from monai.transforms import LoadImage, LoadImaged

from monai_zsad.data import ScanReader, find_scans, find_user_error
from monai_zsad.errors import InputError
from tests.data.samples import CT, write_nifti, write_series

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def load(image):
    return LoadImage(ScanReader(), ensure_channel_first=True)(image)


def refusal(image) -> str:
    with pytest.raises(InputError) as caught:
        load(image)
    return str(caught.value)


def assert_every_slice_in_place(image, files):
    """Position and rescaled values of every slice as the files state them, without highdicom."""
    values, affine = image[0].numpy(), image.affine.numpy()
    lps_to_index = np.linalg.inv(LPS_TO_RAS @ affine)
    seen = set()
    for file in files:
        ds = pydicom.dcmread(file)
        index = lps_to_index @ [*map(float, ds.ImagePositionPatient), 1.0]
        k = round(index[2])
        seen.add(k)
        np.testing.assert_allclose(index[:3], [0, 0, k], atol=1e-3)
        row, column = np.split(np.array(ds.ImageOrientationPatient, dtype=float), 2)
        corner = np.array(ds.ImagePositionPatient, dtype=float)
        corner = corner + row * ds.PixelSpacing[1] * (ds.Columns - 1) + column * ds.PixelSpacing[0] * (ds.Rows - 1)
        np.testing.assert_allclose((LPS_TO_RAS @ affine @ [ds.Columns - 1, ds.Rows - 1, k, 1.0])[:3], corner, atol=1e-3)
        slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
        np.testing.assert_array_equal(values[:, :, k], (ds.pixel_array.T * slope + intercept).astype(np.float32))
    assert seen == set(range(values.shape[2]))


def test_real_dicom_series(shared):
    (record,) = find_scans(shared / "data" / "dicom_vs_seg_001")
    image = LoadImaged(keys="image", reader=ScanReader(), ensure_channel_first=True)(record)["image"]
    assert image.shape == (1, 512, 512, 120)
    assert image.meta["modality"] == record["modality"] == "MR"
    assert_every_slice_in_place(image, record["image"])


def test_real_nifti_as_nibabel_reads_it(shared):
    path = shared / "data" / "mslong" / "patient01_study1_FLAIR.nii.gz"
    image, source = load(path), nibabel.load(path)
    np.testing.assert_array_equal(image[0].numpy(), source.get_fdata().astype(np.float32))
    np.testing.assert_allclose(image.affine.numpy(), source.affine)


@settings(max_examples=15, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    slices=st.integers(2, 6),
    step=st.floats(0.3, 8.0),
)
def test_any_oblique_series(tmp_path_factory, angles, slices, step):
    from scipy.spatial.transform import Rotation

    frame = Rotation.from_euler("xyz", angles).as_matrix()
    orientation = tuple(round(float(v), 8) for v in (*frame[0], *frame[1]))
    files = write_series(tmp_path_factory.mktemp("s"), slices=slices, step=step, orientation=orientation)
    assert_every_slice_in_place(load(files), files)


def test_ct_values_are_rescaled_by_slice(tmp_path):
    files = write_series(tmp_path, sop_class=CT, modality="CT")
    image = load(files)
    assert image.dtype.is_floating_point
    assert image.meta["modality"] == "CT"
    assert_every_slice_in_place(image, files)


def test_order_and_grid_are_those_of_itk(tmp_path):
    files = write_series(tmp_path)
    ours, theirs = load(files), LoadImage(ITKReader(), ensure_channel_first=True)(tmp_path)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    np.testing.assert_allclose(ours.affine.numpy(), theirs.affine.numpy(), atol=1e-4)


def test_enhanced_multi_frame(tmp_path, shared):
    from highdicom.legacy import LegacyConvertedEnhancedMRImage

    sources = sorted((shared / "data" / "dicom_vs_seg_001").glob("*.dcm"))[:4]
    datasets = [pydicom.dcmread(file) for file in reversed(sources)]
    enhanced = LegacyConvertedEnhancedMRImage(datasets, pydicom.uid.generate_uid(), 9, pydicom.uid.generate_uid(), 1)
    enhanced.save_as(tmp_path / "enhanced")
    (record,) = find_scans(tmp_path)
    assert len(record["image"]) == 1
    image = load(record["image"])
    assert image.meta["modality"] == "MR"
    assert_every_slice_in_place(image, sources)


def test_monochrome1_is_kept_and_recorded(tmp_path):
    files = write_series(tmp_path, PhotometricInterpretation="MONOCHROME1")
    image = load(files)
    assert "MONOCHROME1" in image.meta["warnings"]
    assert_every_slice_in_place(image, files)


@pytest.mark.parametrize("spacing", [-2.5, 99.0])
def test_spacing_between_slices_is_not_believed(tmp_path, spacing):
    files = write_series(tmp_path, SpacingBetweenSlices=spacing)
    assert_every_slice_in_place(load(files), files)


def test_small_jitter_is_recorded(tmp_path):
    files = write_series(tmp_path, slices=3)
    ds = pydicom.dcmread(files[1])
    ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], float(ds.ImagePositionPatient[2]) + 0.05]
    ds.save_as(files[1])
    assert "varies by 0.050 mm" in load(files).meta["warnings"]


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"PixelData": lambda i: None if i == 2 else b"\0" * 70}, "has no pixel data"),
        ({"PixelData": lambda i: b"\0" * (30 if i == 2 else 70)}, "cannot be decoded"),
        ({"ImagePositionPatient": lambda i: [0, 0, 3.0 * i + (9 if i > 3 else 0)]}, "slices are missing"),
        ({"ImagePositionPatient": lambda i: [0, 0, 3.0 * max(i, 1)]}, "more than one slice at"),
        ({"ImagePositionPatient": lambda i: [0, 0, 3.0 * i + 0.4 * (i == 3)]}, "unevenly spaced"),
        ({"ImagePositionPatient": lambda i: [0, 0.6 * i, 3.0 * i]}, "tilted gantry"),
        ({"ImagePositionPatient": lambda i: [0, 0.06 * i, 3.0 * i]}, "tilted gantry"),
        ({"ImagePositionPatient": None}, "has no ImagePositionPatient"),
        ({"PixelSpacing": [0, 0.5]}, "PixelSpacing is"),
        ({"PatientID": lambda i: f"P{i // 3}"}, "several patients"),
        ({"ImageOrientationPatient": lambda i: [1, 0, 0, 0, 1, 0] if i else [0, 1, 0, 1, 0, 0]}, "orientation"),
        ({"Modality": "CT"}, "without RescaleSlope"),
        ({"SamplesPerPixel": 3}, "colour image"),
        ({"NumberOfFrames": 2}, "several frames"),
        ({"FrameOfReferenceUID": None}, "has no FrameOfReferenceUID"),
        ({"Rows": lambda i: 5 if i else 7, "Columns": lambda i: 7 if i else 5}, "different size"),
    ],
)
def test_series_that_would_be_read_wrongly_are_refused(tmp_path, changes, finding):
    files = write_series(tmp_path, orientation=(1, 0, 0, 0, 1, 0), **changes)
    message = refusal(files)
    assert finding in message
    assert str(tmp_path) in message
    assert "\n" not in message


def test_empty_slice_is_named(tmp_path):
    files = write_series(tmp_path)
    files[3].write_bytes(b"")
    assert refusal(files).startswith(f"{files[3]}: is empty;")


def test_the_reader_that_refuses_is_the_only_one(tmp_path):
    """LoadImage would go on to ITK, which reads a series with a missing slice without a word."""
    files = write_series(tmp_path)
    files[2].unlink()
    kept = [str(file) for file in files if file.exists()]
    with pytest.raises(InputError, match="slices are missing"):
        LoadImaged(keys="image", reader=ScanReader())({"image": kept})


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_nifti(tmp_path, suffix, dtype):
    affine = np.array([[0, -2.0, 0.1, 5], [1.5, 0, 0, -6], [0, 0.1, 3, 7], [0, 0, 0, 1]])
    values = write_nifti(tmp_path / f"a{suffix}", affine=affine, dtype=dtype)
    image = load(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image[0].numpy(), values.astype(np.float32))
    np.testing.assert_allclose(image.affine.numpy(), affine, atol=1e-6)
    np.testing.assert_allclose(image.meta["original_affine"], affine, atol=1e-6)
    assert image.meta["spatial_shape"].tolist() == [8, 9, 5]


def test_scaled_nifti(tmp_path):
    image = nibabel.Nifti1Image(np.arange(60, dtype="int16").reshape(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "a.nii")
    stored = nibabel.load(tmp_path / "a.nii").get_fdata()
    np.testing.assert_allclose(load(tmp_path / "a.nii")[0].numpy(), stored, rtol=1e-6)


def test_damaged_gzip_is_refused(tmp_path):
    path = tmp_path / "a.nii.gz"
    write_nifti(path, shape=(20, 20, 20))
    whole = path.read_bytes()
    for damaged in (whole[:-9], whole[: len(whole) // 2], whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:], b"no"):
        path.write_bytes(damaged)
        assert refusal(path).startswith(f"{path}: is damaged")
    raw = gzip.decompress(whole)
    (tmp_path / "b.nii").write_bytes(raw[:-100])
    assert "damaged" in refusal(tmp_path / "b.nii")


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        (np.zeros((4, 4, 4, 3), "f4"), "4-dimensional (4 x 4 x 4 x 3)"),
        (np.zeros((4, 4), "f4"), "2-dimensional"),
        (np.full((4, 4, 4), np.nan, "f4"), "no voxel has a finite value"),
        (np.where(np.arange(64) < 32, np.inf, 0).reshape(4, 4, 4).astype("f4"), "50.0 %"),
        (np.zeros((4, 4, 4), "c8"), "complex64"),
    ],
)
def test_nifti_without_one_real_volume(tmp_path, values, finding):
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    assert finding in refusal(tmp_path / "a.nii")


def test_trailing_axis_of_one_and_few_bad_voxels_are_repaired(tmp_path):
    values = np.arange(1.0, 1001.0, dtype="f4").reshape(10, 10, 10, 1)
    values[3, 3, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    image = load(tmp_path / "a.nii")
    assert image.shape == (1, 10, 10, 10)
    assert float(image[0, 3, 3, 3]) == 1.0
    assert "1 NaN or infinite voxels" in image.meta["warnings"]


@pytest.mark.parametrize("affine", [np.diag([0.0, 1, 1, 1]), np.diag([np.nan, 1, 1, 1]), np.ones((4, 4))])
def test_affine_without_volume(tmp_path, affine):
    image = nibabel.Nifti1Image(np.zeros((3, 3, 3), "f4"), np.eye(4))
    image.header.set_sform(affine, code=1)
    image.header["qform_code"] = 0
    image.to_filename(tmp_path / "a.nii")
    header = bytearray((tmp_path / "a.nii").read_bytes())
    header[280:328] = affine[:3].astype("<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(bytes(header))
    assert "geometry" in refusal(tmp_path / "a.nii")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_itk_formats(tmp_path, suffix):
    values = np.arange(60, dtype="float32").reshape(5, 4, 3)
    image = itk.image_from_array(values)
    image.SetSpacing([1.0, 2.0, 3.0])
    image.SetOrigin([5.0, 6.0, 7.0])
    itk.imwrite(image, str(tmp_path / f"a{suffix}"))
    (record,) = find_scans(tmp_path)
    loaded = load(record["image"])
    np.testing.assert_array_equal(loaded[0].numpy(), values.transpose(2, 1, 0))
    np.testing.assert_allclose(
        loaded.affine.numpy(), LPS_TO_RAS @ np.array([[1, 0, 0, 5], [0, 2, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    )


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_damaged_and_foreign_itk_files(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    itk.imwrite(itk.image_from_array(np.ones((20, 20, 20), "float32")), str(path))
    path.write_bytes(path.read_bytes()[:-500])
    assert "cannot be read" in refusal(path)
    path.write_bytes(b"something else")
    assert "cannot be read" in refusal(path)
    itk.imwrite(itk.image_from_array(np.ones((2, 4, 4, 4), "float32")), str(path))
    assert "4-dimensional" in refusal(path)
    itk.imwrite(itk.image_from_array(np.ones((4, 4, 4, 3), "float32"), is_vector=True), str(path))
    assert "3 values per voxel" in refusal(path)


@pytest.mark.parametrize("line", ["data file: /etc/hostname", "data file: ../b.raw", "data file: LIST", "data file: b"])
def test_nrrd_data_elsewhere_are_not_followed(tmp_path, line):
    path = tmp_path / "a.nhdr"
    path.write_text(f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 1 1 1\nencoding: raw\n{line}\n\n")
    assert "data" in refusal(path)


def test_missing_path_and_folder(tmp_path):
    assert "does not exist" in refusal(tmp_path / "a.nii")
    assert "find_scans" in refusal(tmp_path)


def test_cause_is_found_behind_compose(tmp_path):
    from monai.transforms import Compose

    with pytest.raises(RuntimeError) as caught:
        Compose([LoadImaged(keys="image", reader=ScanReader())])({"image": str(tmp_path / "a.nii")})
    assert isinstance(find_user_error(caught.value), InputError)


def planted(ds) -> None:
    """A secret in every text of a header that the reader does not need."""
    for name in ("PatientName", "PatientID", "StudyDescription", "SeriesDescription", "ProtocolName"):
        setattr(ds, name, "SECRET")
    for name in ("AccessionNumber", "InstitutionName", "ImageComments", "StudyID", "StationName", "OperatorsName"):
        setattr(ds, name, "SECRET")
    ds.PatientBirthDate = "19010203"


def test_meta_data_name_no_folder_and_no_text_of_a_header(tmp_path):
    folder = tmp_path / "SECRET one" / "SECRET two"
    files = write_series(folder, prefix="a", PhotometricInterpretation="MONOCHROME1", orientation=(1, 0, 0, 0, 1, 0))
    write_series(folder, prefix="l", slices=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    for file in folder.iterdir():
        ds = pydicom.dcmread(file)
        planted(ds)
        ds.save_as(file)
    ds = pydicom.dcmread(files[1])
    ds.ImagePositionPatient = [*ds.ImagePositionPatient[:2], float(ds.ImagePositionPatient[2]) + 0.05]
    ds.save_as(files[1])
    copy = pydicom.dcmread(files[2])
    copy.save_as(folder / "copy.dcm")
    (record,) = find_scans(folder)
    image = LoadImaged(keys="image", reader=ScanReader(), ensure_channel_first=True)(record)["image"]
    assert set(image.meta["warning_codes"].splitlines()) == {"monochrome1", "jitter", "duplicates-dropped"}
    assert record["warning_codes"] == "set-aside"
    # The reader's own; MONAI adds the name under which the file was opened.
    written = {key: image.meta[key] for key in ("modality", "warnings", "warning_codes", "space")}
    told = str(written) + record["warnings"]
    assert "SECRET" not in told
    assert str(tmp_path) not in told
    assert "19010203" not in told
    assert not any(file.name in told for file in folder.iterdir())


def test_warnings_of_files_name_no_folder(tmp_path):
    values = np.arange(1.0, 1001.0, dtype="f4").reshape(10, 10, 10)
    values[3, 3, 3] = np.nan
    (tmp_path / "SECRET").mkdir()
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "SECRET" / "a.nii")
    assert load(tmp_path / "SECRET" / "a.nii").meta["warnings"].startswith("1 NaN")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3), "u1"), np.eye(4)), tmp_path / "SECRET" / "m.nii")
    mask = LoadImage(ScanReader(accept="constant"))(tmp_path / "SECRET" / "m.nii")
    assert mask.meta["warnings"] == "every voxel has the value 0; accepted as asked for"

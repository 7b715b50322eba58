from __future__ import annotations

import json
import shutil
import subprocess

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import LoadImage, Orientation

from monai_zsad.data import ScanReader, find_scans
from monai_zsad.errors import OutputError
from monai_zsad.synthesis import phantom_abdomen, phantom_head, write_dicom_series, write_phantom, write_sample_scan

AXES = ["RAS", "LPS", "LAI", "PIR", "ASR", "LIP", "RSA", "SPL"]


def as_axes(phantom, codes):
    """The phantom with its array flipped and transposed."""
    ornt = nibabel.orientations.axcodes2ornt(tuple(codes))
    change = nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(phantom.affine), ornt)
    turned = {
        name: nibabel.orientations.apply_orientation(getattr(phantom, name), change)
        for name in ("image", "lesion", "tissue")
    }
    affine = phantom.affine @ nibabel.orientations.inv_ornt_aff(change, phantom.image.shape)
    return phantom._replace(affine=affine, **turned)


def canonical(image):
    return Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(image)


@settings(max_examples=12, deadline=None)
@given(
    codes=st.sampled_from(AXES),
    spacing=st.tuples(*[st.floats(4.0, 7.0)] * 3),
    degrees=st.tuples(*[st.floats(-20.0, 20.0)] * 3),
    contrast=st.sampled_from(["flair", "ct", "random"]),
)
def test_dicom_and_nifti_hold_the_same_scan(tmp_path_factory, codes, spacing, degrees, contrast):
    folder = tmp_path_factory.mktemp("phantom")
    head = phantom_head((30, 34, 26), spacing, seed=1, lesion=False, contrast=contrast)
    head = as_axes(head, codes).turned(degrees)
    before = head.image.copy()
    scan = write_phantom(head, folder / "scan.nii.gz")
    series = write_phantom(head, folder / "series")
    np.testing.assert_array_equal(head.image, before)
    load = LoadImage(reader=ScanReader(), ensure_channel_first=True)
    (record,) = find_scans(series)
    assert record["modality"] == ("CT" if contrast == "ct" else "MR")
    nifti, dicom = canonical(load(scan)), canonical(load(record["image"]))
    np.testing.assert_array_equal(nifti.numpy(), dicom.numpy())
    np.testing.assert_allclose(nifti.affine, dicom.affine, atol=1e-4)
    by_monai = canonical(LoadImage(reader="PydicomReader", ensure_channel_first=True)(series))
    np.testing.assert_array_equal(nifti.numpy(), by_monai.numpy())
    np.testing.assert_allclose(nifti.affine, by_monai.affine, atol=1e-3)


@pytest.mark.parametrize(("codes", "usual"), [("RAS", "LPS"), ("SAR", "PIR"), ("SRP", "LIP")])
def test_slices_are_stored_as_radiologists_see_them(tmp_path, codes, usual):
    head = as_axes(phantom_head((24, 26, 22), (7.0, 8.0, 9.0), lesion=False), codes)
    folder = write_dicom_series(head, tmp_path / "series")
    first, second = (pydicom.dcmread(folder / f"slice_000{i}.dcm") for i in (1, 2))
    orientation = np.array(first.ImageOrientationPatient, dtype=float)
    step = np.subtract(second.ImagePositionPatient, first.ImagePositionPatient)
    axes = np.stack([orientation[:3], orientation[3:], step], axis=1)
    # DICOM's axes point left and back, so the letters are those of LPS.
    letters = nibabel.aff2axcodes(np.block([[axes, np.zeros((3, 1))], [np.zeros(3), 1]]), ("RL", "AP", "IS"))
    assert "".join(letters) == usual
    np.testing.assert_allclose(np.cross(orientation[:3], orientation[3:]), step / np.linalg.norm(step))


def test_header_names_a_phantom_and_uids_follow_the_content(tmp_path):
    def first(phantom, name):
        folder = write_dicom_series(phantom, tmp_path / name)
        return pydicom.dcmread(folder / "slice_0001.dcm")

    grid = ((24, 24, 4), (8.0, 8.0, 30.0))
    one, again = first(phantom_head(*grid), "one"), first(phantom_head(*grid), "again")
    assert (tmp_path / "one/slice_0003.dcm").read_bytes() == (tmp_path / "again/slice_0003.dcm").read_bytes()
    assert one == again
    assert str(one.PatientName) == "PHANTOM^HEAD"
    assert one.QualityControlSubject == "YES"
    t1, other = first(phantom_head(*grid, contrast="t1"), "t1"), first(phantom_head(*grid, seed=1), "other")
    assert t1.StudyInstanceUID == one.StudyInstanceUID != other.StudyInstanceUID
    assert t1.FrameOfReferenceUID == one.FrameOfReferenceUID
    assert len({ds.SeriesInstanceUID for ds in (one, t1, other)}) == 3
    assert len({ds.SOPInstanceUID for ds in (one, t1, other)}) == 3
    turned = first(phantom_head(*grid).turned((5.0, 0.0, 0.0)), "turned")
    assert turned.FrameOfReferenceUID != one.FrameOfReferenceUID


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("contrast", ["flair", "t1", "t2", "ct", "random"])
def test_dciodvfy_finds_no_error(tmp_path, contrast):
    head = phantom_head((24, 24, 2), (8.0, 8.0, 60.0), lesion=False, contrast=contrast).turned((3.0, 11.0, -7.0))
    for file in write_dicom_series(head, tmp_path / "series").iterdir():
        done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert "Image" in said
        assert "Error" not in said, said


def test_masks_lie_where_the_scan_lies(tmp_path):
    abdomen = phantom_abdomen((48, 40, 10), (8.0, 8.0, 20.0), seed=2)
    write_phantom(abdomen, tmp_path / "ct", lesion=tmp_path / "lesion.nii.gz", tissue=tmp_path / "tissue.nii")
    load = LoadImage(ensure_channel_first=True)
    lesion, tissue = load(tmp_path / "lesion.nii.gz"), load(tmp_path / "tissue.nii")
    np.testing.assert_array_equal(lesion[0].numpy(), abdomen.lesion)
    np.testing.assert_array_equal(tissue[0].numpy(), abdomen.tissue)
    (record,) = find_scans(tmp_path / "ct")
    scan = canonical(LoadImage(reader=ScanReader(), ensure_channel_first=True)(record["image"]))
    np.testing.assert_allclose(scan.affine, lesion.affine, atol=1e-4)
    np.testing.assert_array_equal(scan[0].numpy(), np.round(abdomen.image))


def test_series_replaces_only_a_series(tmp_path):
    head = phantom_head((24, 24, 6), (8.0, 8.0, 20.0), lesion=False)
    folder = write_dicom_series(head, tmp_path / "series")
    write_dicom_series(head._replace(image=head.image[:, :, :3]), folder)
    assert [file.name for file in sorted(tmp_path.rglob("*.dcm"))] == [f"slice_000{i}.dcm" for i in (1, 2, 3)]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files \(notes.txt\)"):
        write_dicom_series(head, folder)
    assert len(list(folder.iterdir())) == 4
    with pytest.raises(OutputError, match="is a file"):
        write_dicom_series(head, folder / "notes.txt")


def test_what_cannot_be_written_is_refused(tmp_path):
    head = phantom_head((24, 24, 6), (8.0, 8.0, 20.0), lesion=False)
    sheared = head.affine.copy()
    sheared[0, 1] = 3.0
    with pytest.raises(OutputError, match="sheared"):
        write_dicom_series(head._replace(affine=sheared), tmp_path / "series")
    with pytest.raises(OutputError, match=r"lesion=.*mask\.png"):
        write_phantom(head, tmp_path / "series", lesion=tmp_path / "mask.png")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_phantom(head, tmp_path / "file" / "scan.nii.gz")
    with pytest.raises(OutputError, match="cannot be written"):
        write_phantom(head, tmp_path / "file" / "series")


@pytest.mark.parametrize("dicom", [False, True])
def test_sample_files(tmp_path, dicom):
    path = write_sample_scan(tmp_path / "sample", seed=0, dicom=dicom)
    mask = nibabel.load(path.with_name("sample_flair_lesion.nii.gz"))
    truth = json.loads(path.with_name("sample_flair.json").read_text())
    assert truth["scan"] == path.name == ("sample_flair" if dicom else "sample_flair.nii.gz")
    (record,) = find_scans(path)
    assert record["case"] == "sample_flair"
    scan = canonical(LoadImage(reader=ScanReader(), ensure_channel_first=True)(record["image"]))
    assert tuple(scan.shape[1:]) == mask.shape == (256, 256, 40)
    np.testing.assert_allclose(scan.affine, mask.affine, atol=1e-4)
    assert nibabel.aff2axcodes(mask.affine) == ("R", "A", "S")
    inside = mask.get_fdata() > 0
    center = np.argwhere(inside).mean(axis=0) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    np.testing.assert_allclose(center, truth["lesion_center_ras_mm"], atol=1.0)
    assert np.median(scan[0].numpy()[inside]) > 800

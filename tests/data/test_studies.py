from __future__ import annotations

import pytest

from monai_zsad.data import find_scans
from monai_zsad.errors import InputError
from tests.data.samples import CAPTURE, CT, SEG, write_nifti, write_series


def cases(folder):
    return [record["case"] for record in find_scans(folder)]


def test_volume_files_of_any_nesting_and_nothing_else(tmp_path):
    for name in ("b/scan.nii.gz", "a/deep/er/scan.nii", "c.NII.GZ"):
        write_nifti(tmp_path / name.lower())
    (tmp_path / "b" / "notes.txt").write_text("DICM")
    (tmp_path / ".hidden").mkdir()
    write_nifti(tmp_path / ".hidden" / "x.nii")
    write_nifti(tmp_path / "b" / "._scan.nii.gz")
    records = find_scans(tmp_path)
    assert [record["image"] for record in records] == [
        str(tmp_path / name) for name in ("a/deep/er/scan.nii", "b/scan.nii.gz", "c.nii.gz")
    ]
    assert [record["case"] for record in records] == ["er_scan", "b_scan", "c"]
    assert {record["modality"] for record in records} == {""}


def test_a_single_file(tmp_path):
    write_nifti(tmp_path / "Müller, A (1).nii.gz")
    (record,) = find_scans(tmp_path / "Müller, A (1).nii.gz")
    assert record["case"] == "Müller-A-1"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("x/a.nii", "y/a.nii"), ["x_a", "y_a"]),
        (("x/s/a.nii", "y/s/a.nii", "y/s/b.nii"), ["x_s_a", "y_s_a", "b"]),
        (("a.nii", "a.nii.gz"), ["a", "a_2"]),
        (("a.nii", "a.nii.gz", "a_2.nii"), ["a", "a_3", "a_2"]),
        (("A/scan.nii", "b/SCAN.nii"), ["A_scan", "b_SCAN"]),
        (("x_a.nii", "x/a.nii", "y/a.nii"), ["x_a", "y_a", "x_a_2"]),
    ],
)
def test_case_ids_are_unique(tmp_path, names, expected):
    for name in names:
        write_nifti(tmp_path / name)
    found = cases(tmp_path)
    assert sorted(found) == sorted(expected)
    assert len({case.casefold() for case in found}) == len(names)


def test_ids_are_safe_as_file_names(tmp_path):
    write_nifti(tmp_path / ("x" * 200 + "?*: .nii"))
    write_nifti(tmp_path / "...nii.nii")
    for case in cases(tmp_path):
        assert case == case.strip(".-_ ")
        assert 0 < len(case) <= 100
        assert not set(case) & set('/\\:*?"<>| ')


def test_dicom_series_is_one_scan_of_sorted_files(tmp_path):
    files = write_series(tmp_path / "study" / "t1", suffix="")
    (record,) = find_scans(tmp_path / "study")
    assert record == {"image": sorted(str(file) for file in files), "case": "t1", "modality": "MR"}
    (alone,) = find_scans(tmp_path / "study" / "t1")
    assert alone["case"] == "t1"


def test_several_series_of_one_folder_are_told_apart_by_their_number(tmp_path):
    write_series(tmp_path / "mix", number=3, prefix="a")
    write_series(tmp_path / "mix", number=8, prefix="b", sop_class=CT, modality="CT")
    records = find_scans(tmp_path / "mix")
    assert [(record["case"], record["modality"], len(record["image"])) for record in records] == [
        ("mix_s3", "MR", 6),
        ("mix_s8", "CT", 6),
    ]


def test_what_is_no_scan_is_left_out_and_logged(tmp_path, caplog):
    write_series(tmp_path / "s", prefix="a")
    write_series(tmp_path / "s", prefix="l", slices=2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(tmp_path / "s", prefix="c", slices=1, sop_class=CAPTURE)
    write_series(tmp_path / "s", prefix="g", slices=1, sop_class=SEG)
    with caplog.at_level("INFO", logger="monai_zsad"):
        assert cases(tmp_path / "s") == ["s"]
    assert "left out 2 DICOM files: localizer" in caplog.text
    assert "secondary capture" in caplog.text
    assert "Segmentation Storage" in caplog.text


def test_a_damaged_slice_stays_with_its_series(tmp_path):
    files = write_series(tmp_path / "s")
    files[-1].write_bytes(b"")
    (record,) = find_scans(tmp_path / "s")
    assert str(files[-1]) in record["image"]
    assert len(record["image"]) == 6


def test_nothing_to_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="gone does not exist: give a"):
        find_scans(tmp_path / "gone")
    with pytest.raises(InputError, match="is an empty folder: give a"):
        find_scans(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"holds no scan \(1 other files\)"):
        find_scans(tmp_path)
    write_series(tmp_path, slices=1, sop_class=CAPTURE)
    with pytest.raises(InputError, match="left out 1 x secondary capture"):
        find_scans(tmp_path)


def test_results_beside_the_scans_are_not_taken_for_scans(tmp_path):
    for name in ("scan.nii.gz", "out/scan/scan_anomaly.nii.gz", "out_of_town/other.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert len(find_scans(tmp_path)) == 3
    found = find_scans(tmp_path, exclude=tmp_path / "out")
    assert [record["case"] for record in found] == ["other", "scan"]

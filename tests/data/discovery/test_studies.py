from __future__ import annotations

import copy
import gzip
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import itk
import nibabel
import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_zsad.data import ScanReader, extract_archive, find_scans, find_studies
from monai_zsad.data.discovery import archives
from monai_zsad.errors import InputError
from monai_zsad.writers import SaveCased, SaveManifestd
from tests.data.samples import CAPTURE, CT, SEG, write_nifti, write_series


def cases(folder):
    return [record["case"] for record in find_scans(folder)]


def left_out(folder, **options):
    """Name and code of what is not screened."""
    return sorted((one.path.name, one.code) for one in find_scans(folder, **options).left_out)


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
    with pytest.raises(InputError, match=r"gone: .*; give a NIfTI \(\.nii\)"):
        find_scans(tmp_path / "gone")
    with pytest.raises(InputError, match=r"; give a NIfTI \(\.nii\)"):
        find_scans(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"holds no scan \(1 other files\)"):
        find_scans(tmp_path)
    write_series(tmp_path, slices=1, sop_class=CAPTURE)
    with pytest.raises(InputError, match=r"left out 1 x secondary capture \(capture\)"):
        find_scans(tmp_path)


def test_results_beside_the_scans_are_not_taken_for_scans(tmp_path):
    for name in ("scan.nii.gz", "out/scan/anomaly.nii.gz", "out_of_town/other.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert len(find_scans(tmp_path)) == 3
    found = find_scans(tmp_path, exclude=tmp_path / "out")
    assert [record["case"] for record in found] == ["other", "scan"]


def test_results_of_an_earlier_run_are_not_taken_for_scans(tmp_path, caplog):
    write_nifti(tmp_path / "scan.nii.gz")
    data: dict[Any, Any] = {
        "case": "scan",
        "pred": MetaTensor(torch.ones(1, 2, 3, 4)),
        "image": MetaTensor(torch.ones(1, 2, 3, 4)),
    }
    for write in (SaveCased("pred", tmp_path / "results"), SaveManifestd("pred", tmp_path / "results", meta={})):
        write(data)
    assert len(list((tmp_path / "results" / "scan").glob("*.nii.gz"))) == 1
    with caplog.at_level("INFO"):
        found = find_scans(tmp_path)
    assert [record["image"] for record in found] == [str(tmp_path / "scan.nii.gz")]
    assert "left out 1 folders with results" in caplog.text
    results = tmp_path / "results" / "scan"
    (results / "manifest.json").rename(results / "scan_manifest.json")
    assert len(find_scans(tmp_path)) == 1, "the name that early versions gave it"
    (results / "scan_manifest.json").rename(results / "list.json")
    (results / "manifest.json").write_text('{"files": ["of another program"]}')
    assert len(find_scans(tmp_path)) == 2
    assert len(find_scans(tmp_path / "results" / "scan")) == 1, "what is asked for by name is taken"


def test_segmentations_of_slicer_are_no_scans(tmp_path, caplog):
    write_nifti(tmp_path / "scan.nii.gz")
    (tmp_path / "Segmentation.seg.nrrd").write_bytes(b"NRRD0004")
    with caplog.at_level("INFO"):
        assert cases(tmp_path) == ["scan"]
    assert "left out 1 x a mask or a segmentation" in caplog.text
    assert left_out(tmp_path) == [("Segmentation.seg.nrrd", "mask")]
    assert [one.skipped for one in find_studies(tmp_path)] == ["segmentation of 3D Slicer", ""]
    with pytest.raises(InputError, match="left out 1 x segmentation of 3D Slicer"):
        find_scans(tmp_path / "Segmentation.seg.nrrd")


def write_mask(path, labels=(0, 1), shape=(12, 11, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).choice(np.array(labels, dtype="f4"), shape)
    if path.suffix == ".png":
        Image.fromarray(values[..., 0].astype("u1")).save(path)
    elif path.suffix == ".mha":
        itk.imwrite(itk.image_from_array(values.astype("u1")), str(path))
    else:
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


@pytest.mark.parametrize(
    "name", ["anna_mask.nii.gz", "anna-seg.nii", "label001.nii.gz", "labelsTr/anna.nii.gz", "b/GT.nii", "roi.mha"]
)
def test_masks_beside_scans_are_left_out_with_a_reason(tmp_path, caplog, name):
    write_nifti(tmp_path / "anna.nii.gz")
    mask = write_mask(tmp_path / name, (0, 1, 2))
    with caplog.at_level("INFO"):
        assert cases(tmp_path) == ["anna"]
    assert "left out 1 x a mask" in caplog.text
    assert left_out(tmp_path) == [(mask.name, "mask")]
    found = {one.path: one for one in find_studies(tmp_path)}
    assert found[mask].skipped == "looks like a mask, by its name and few whole values"
    assert found[mask].shape in ((12, 11, 10), (10, 11, 12))
    assert found[tmp_path / "anna.nii.gz"].skipped == ""


def test_a_mask_that_is_named_itself_is_a_scan_with_a_warning(tmp_path):
    mask = write_mask(tmp_path / "anna_mask.nii.gz")
    assert cases(mask) == ["anna_mask"]
    (found,) = find_studies(mask)
    assert (found.skipped, found.warning_codes) == ("", ("looks-like-mask",))
    assert ScanReader().get_data([mask])[1]["warning_codes"] == "looks-like-mask"
    assert ScanReader(accept="constant").get_data([mask])[1]["warning_codes"] == ""
    (tmp_path / "scans.csv").write_text("image\nanna_mask.nii.gz\n")
    assert cases(tmp_path / "scans.csv") == ["anna_mask"]
    assert [one.skipped for one in find_studies(tmp_path / "scans.csv")] == [""]
    write_mask(tmp_path / "only" / "a_seg.nii")
    with pytest.raises(InputError, match=r"left out 1 x looks like a mask, .* \(mask\)"):
        find_scans(tmp_path / "only")


@pytest.mark.parametrize("name", ["unmasked.nii.gz", "segment_2.nii"])
def test_scans_with_a_name_like_that_of_a_mask_stay(tmp_path, name):
    write_nifti(tmp_path / "anna.nii.gz")
    write_nifti(tmp_path / name, (12, 11, 10))
    (tmp_path / "broken_mask.nii").write_bytes(b"no NIfTI")
    assert len(find_scans(tmp_path)) == 3
    assert name in {one.path.name for one in find_studies(tmp_path) if not one.skipped}


def test_a_listed_folder_without_a_scan_stops_no_other(tmp_path):
    write_nifti(tmp_path / "a.nii")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text("nothing")
    (tmp_path / "list.csv").write_text("image\nempty\na.nii\ntexts\n")
    found = find_scans(tmp_path / "list.csv")
    assert [record["case"] for record in found] == ["a"]
    assert [(one.path.name, one.code, one.is_refused) for one in found.left_out] == [
        ("empty", "no-scan", True),
        ("texts", "no-scan", True),
    ]
    (tmp_path / "list.csv").write_text("image\nempty\n")
    with pytest.raises(InputError) as caught:
        find_scans(tmp_path / "list.csv")
    assert caught.value.code == "no-scan"


@pytest.mark.parametrize("content", ["packed", "dicom", "text", "cut"])
def test_a_file_that_is_none_is_listed_and_left_to_the_reader(tmp_path, content):
    write_nifti(tmp_path / "a.nii.gz")
    (dicom,) = write_series(tmp_path / "s", slices=1)
    packed = (tmp_path / "a.nii.gz").read_bytes()
    made = {"packed": packed, "dicom": dicom.read_bytes(), "text": b"text " * 200, "cut": gzip.decompress(packed)[:400]}
    path = tmp_path / "a_mask.nii"
    path.write_bytes(made[content])
    assert cases(path) == ["a_mask"]
    (found,) = find_studies(path)
    if content == "packed":
        assert (found.code, found.warning_codes) == ("", ("misnamed",))
        assert ScanReader().get_data([path])[1]["warning_codes"] == "misnamed"
        return
    assert (found.code, found.is_usable) == ("damaged", False)
    with pytest.raises(InputError) as caught:
        ScanReader().get_data([path])
    assert caught.value.code == "damaged"
    assert str(caught.value) == f"{path}: {found.refused}"


def test_masks_among_pictures_are_left_out(tmp_path):
    Image.fromarray(np.arange(132, dtype="u1").reshape(12, 11)).save(tmp_path / "anna.png")
    write_mask(tmp_path / "anna_mask.png", (0, 255))
    assert cases(tmp_path) == ["anna"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may open every folder")
def test_a_folder_that_cannot_be_opened_is_named(tmp_path, caplog):
    write_nifti(tmp_path / "scan.nii.gz")
    (tmp_path / "closed").mkdir(mode=0)
    assert len(find_scans(tmp_path)) == 1
    assert "closed was left out" in caplog.text


def test_a_folder_that_cannot_be_opened_is_listed(tmp_path, monkeypatch):
    write_nifti(tmp_path / "scan.nii.gz")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refusing(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    (found,) = find_scans(tmp_path).left_out
    assert (found.path, found.code) == (tmp_path / "closed", "closed")
    assert found.sentence == "cannot be opened (Permission denied); give yourself the right to read it"


def test_what_is_not_screened_is_listed_without_changing_the_cases(tmp_path):
    write_nifti(tmp_path / "anna.nii.gz")
    alone = list(find_scans(tmp_path))
    for name in ("notes.txt", "Thumbs.db", "report.pdf", "dwi.bval", "DICOMDIR.bak"):
        (tmp_path / name).write_bytes(b"text")
    (tmp_path / "gone.bvec").symlink_to(tmp_path / "nowhere")
    assert left_out(tmp_path) == []
    write_mask(tmp_path / "anna_seg.nii.gz")
    write_series(tmp_path / "scout", slices=3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.tar").touch()
    (tmp_path / "alone.img").touch()
    found = find_scans(tmp_path)
    assert list(found) == alone
    names = [(one.path.relative_to(tmp_path).as_posix(), one.code, one.files) for one in found.left_out]
    listed = {
        ("anna_seg.nii.gz", "mask", 1), ("scout", "localizer", 3), ("a/x.tar", "unread-archive", 1),
        ("b/x.tar", "unread-archive", 1), ("alone.img", "unread-format", 1),
    }  # fmt: skip
    assert listed <= {*names}
    ids = [one.case for one in found.left_out]
    assert len({*ids}) == len(ids)
    assert {re.sub("[^-]+-[^-]+-", "", one, count=1) for one in ids} >= {"anna_seg.nii.gz", "scout", "x.tar"}
    assert all(one.startswith(found.mark) for one in ids)
    assert ids == [one.case for one in find_scans(tmp_path).left_out], "the same in each run"
    assert copy.deepcopy(found).left_out == found.left_out, "it can be sent to another process"
    assert found[:0].left_out == found.left_out


def test_an_unreadable_slice_between_two_series_is_listed(tmp_path):
    folder = two_series(tmp_path)
    (folder / "x.dcm").write_bytes(b"no DICOM")
    assert left_out(folder) == [("x.dcm", "damaged")]
    assert left_out(folder, series=3) == [("x.dcm", "damaged")], "it may belong to the chosen series"


def test_what_was_not_chosen_is_not_listed(tmp_path):
    folder = two_series(tmp_path)
    write_mask(folder / "anna_seg.nii.gz")
    (folder / "x.mif").touch()
    assert left_out(folder) == [("anna_seg.nii.gz", "mask"), ("x.mif", "unread-format")]
    assert left_out(folder, series=3) == []


def test_a_list_names_what_lies_beside_its_scans(tmp_path):
    write_series(tmp_path / "s")
    (tmp_path / "s" / "old.tar").touch()
    write_nifti(tmp_path / "a.nii")
    (tmp_path / "list.csv").write_text("image\ns\na.nii\n")
    assert left_out(tmp_path / "list.csv") == [("old.tar", "unread-archive")]


def two_series(folder):
    write_series(folder / "mix", number=3, prefix="a", SeriesDescription="Ax T2 FLAIR", BodyPartExamined="HEAD")
    write_series(folder / "mix", number=8, prefix="b", sop_class=CT, modality="CT", SeriesDescription="Bone")
    return folder / "mix"


@pytest.mark.parametrize(("choice", "case"), [("3", "s3"), (8, "s8"), ("mr", "s3"), ("flair", "s3"), ("bone", "s8")])
def test_a_series_is_chosen(tmp_path, choice, case):
    folder = two_series(tmp_path)
    write_nifti(folder / "other.nii")
    (record,) = find_scans(folder, series=choice)
    assert record["case"] in ("mix", f"mix_{case}")
    assert record["modality"] == ("MR" if case == "s3" else "CT")


def test_a_series_is_chosen_by_uid_or_refused(tmp_path):
    folder = two_series(tmp_path)
    uid = pydicom.dcmread(next(folder.glob("b*"))).SeriesInstanceUID
    assert find_scans(folder, series=uid)[0]["modality"] == "CT"
    with pytest.raises(InputError, match=r"no series 'T1'.*3 \(MR\), 8 \(CT\)") as caught:
        find_scans(folder, series="T1")
    assert caught.value.code == "no-such-series"
    assert "FLAIR" not in str(caught.value)


def test_studies_are_described_with_what_is_left_out(tmp_path):
    folder = two_series(tmp_path)
    write_series(folder, prefix="l", slices=2, number=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_nifti(folder / "other.nii", affine=np.diag([1.0, 1.5, 3.0, 1.0]))
    write_nifti(folder / "x" / "bad.nii")
    (folder / "x" / "bad.nii").write_text("x")
    found = {(one.modality, one.number, one.path.name): one for one in find_studies(tmp_path)}
    flair = found["MR", 3, "mix"]
    assert (flair.description, flair.body_part, flair.files, flair.skipped) == ("Ax T2 FLAIR", "HEAD", 6, "")
    assert flair.shape == (5, 7, 6)
    assert flair.spacing_mm == pytest.approx((0.5, 0.75, 2.5))
    assert "localizer" in flair.warnings[0]
    assert found["MR", 1, "mix"].skipped == "localizer"
    assert found["", None, "other.nii"].shape == (8, 9, 5)
    bad = found["", None, "bad.nii"]
    assert (bad.skipped, bad.code) == ("", "damaged")
    assert "is not a NIfTI file" in bad.refused
    assert len(found) == 5


def test_descriptions_stay_out_of_records(tmp_path):
    assert "FLAIR" not in str(find_scans(two_series(tmp_path)))


def test_an_unreadable_slice_between_two_series_is_told(tmp_path):
    folder = two_series(tmp_path)
    (folder / "x.dcm").write_bytes(b"")
    assert [record["warning_codes"] for record in find_scans(folder)] == ["unreadable-beside"] * 2


def test_pictures_beside_volumes_are_no_scans(tmp_path):
    for name in ("a.png", "b.jpg"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    assert cases(tmp_path) == ["a", "b"]
    write_nifti(tmp_path / "scan.nii")
    assert cases(tmp_path) == ["scan"]


def test_an_archive_is_unpacked_and_removed(tmp_path, monkeypatch):
    write_series(tmp_path / "s")
    source = shutil.make_archive(str(tmp_path / "study one"), "zip", tmp_path / "s")
    at_exit: list[Any] = []
    monkeypatch.setattr("monai_zsad.data.discovery.archives.atexit.register", at_exit.append)
    (record,) = find_scans(source)
    assert record["case"] == "study-one"
    assert len(record["image"]) == 6
    assert all(Path(file).is_file() for file in record["image"])
    unpacked = Path(record["image"][0])
    # What Python runs when it ends.
    for remove in at_exit:
        remove()
    assert not unpacked.parents[1].exists()


def test_an_archive_is_unpacked_where_asked_and_within_its_limit(tmp_path):
    write_nifti(tmp_path / "s" / "a.nii")
    source = shutil.make_archive(str(tmp_path / "z"), "zip", tmp_path / "s")
    folder = extract_archive(source, tmp_path / "out")
    assert folder == tmp_path / "out" / "z"
    assert (folder / "a.nii").is_file()
    with pytest.raises(InputError, match="above the limit") as caught:
        extract_archive(source, tmp_path / "more", max_bytes=100)
    assert caught.value.code == "too-large"
    assert not (tmp_path / "more").exists()


def test_a_list_gives_ids_and_modalities(tmp_path):
    write_nifti(tmp_path / "x" / "a.nii")
    write_series(tmp_path / "s", modality="MR")
    (tmp_path / "list.csv").write_text("Image;Case;Modality\nx/a.nii;../evil id;ct\ns;;\n")
    first, second = find_scans(tmp_path / "list.csv")
    assert first == {"image": str(tmp_path / "x" / "a.nii"), "case": "evil-id", "modality": "CT"}
    assert (second["case"], second["modality"], len(second["image"])) == ("s", "MR", 6)


def test_a_list_entry_with_two_series_is_refused(tmp_path):
    two_series(tmp_path)
    (tmp_path / "list.json").write_text('["mix"]')
    with pytest.raises(InputError, match="holds 2 scans") as caught:
        find_scans(tmp_path / "list.json")
    assert caught.value.code == "bad-datalist"
    assert find_scans(tmp_path / "list.json", series=8)[0]["modality"] == "CT"


def zip_of(folder, name, source):
    return shutil.make_archive(str(folder / name), "zip", source)


def test_archives_in_a_folder_are_looked_into(tmp_path):
    write_series(tmp_path / "a" / "t1")
    write_series(tmp_path / "out" / "deep", modality="CT", sop_class=CT)
    write_nifti(tmp_path / "out" / "flair.nii.gz")
    (tmp_path / "a" / "b").mkdir()
    zip_of(tmp_path / "a" / "b", "anna", tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    records = find_scans(tmp_path)
    assert [(record["case"], record["modality"]) for record in records] == [
        ("deep", "CT"),
        ("flair", ""),
        ("t1", "MR"),
    ]
    assert Path(records[0]["image"][0]).is_file()
    assert Path(records[1]["image"]).is_file()
    assert find_scans(tmp_path)[0]["case"] == "deep"
    (chosen,) = find_scans(tmp_path, series="CT")
    assert chosen["case"] == "deep"
    shown = [one.path.relative_to(tmp_path).as_posix() for one in find_studies(tmp_path)]
    assert shown == ["a/b/anna.zip/deep", "a/b/anna.zip/flair.nii.gz", "a/t1"]


def test_an_archive_of_a_series_beside_it_is_no_second_scan(tmp_path):
    write_series(tmp_path / "s")
    write_nifti(tmp_path / "s" / "n" / "scan.nii")
    zip_of(tmp_path, "s", tmp_path / "s")
    zip_of(tmp_path, "again", tmp_path / "s")
    # Of the same name, but another scan.
    write_nifti(tmp_path / "other" / "scan.nii", seed=1)
    zip_of(tmp_path, "third", tmp_path / "other")
    shutil.rmtree(tmp_path / "other")
    assert sorted(cases(tmp_path)) == ["n_scan", "s", "third_scan"]
    (series,) = [record for record in find_scans(tmp_path) if record["case"] == "s"]
    assert series["image"][0].startswith(str(tmp_path))
    skipped = [one.skipped for one in find_studies(tmp_path) if one.skipped]
    assert skipped == [f"same {what} outside of the archive" for what in ("series", "file") * 2]
    shutil.rmtree(tmp_path / "s")
    assert len(find_scans(tmp_path)) == 3


def test_archives_that_cannot_be_used_are_named_and_the_others_taken(tmp_path, caplog):
    write_nifti(tmp_path / "s" / "a.nii")
    good = Path(zip_of(tmp_path, "good", tmp_path / "s"))
    zip_of(tmp_path / "s", "inner", tmp_path / "s")
    shutil.rmtree(tmp_path / "s")
    (tmp_path / "cut.zip").write_bytes(good.read_bytes()[:-30])
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../evil.nii", b"x")
    assert cases(tmp_path) == ["a"]
    assert "cut.zip was left out: cannot be unpacked" in caplog.text
    assert "evil.zip was left out: its member '../evil.nii' lies outside" in caplog.text
    assert not (tmp_path.parent / "evil.nii").exists()
    found = {one.path.name: one.skipped for one in find_studies(tmp_path)}
    assert found["a.nii"] == ""
    assert "lies outside" in found["evil.zip"]
    assert "cannot be unpacked" in found["cut.zip"]
    good.unlink()
    with pytest.raises(InputError, match=r"holds no scan .*left out 1 x cannot be unpacked .*\(damaged\)"):
        find_scans(tmp_path)


def test_archives_are_bounded_together_and_not_nested(tmp_path, monkeypatch, caplog):
    for seed, name in enumerate(("one", "two", "three")):
        write_nifti(tmp_path / "s" / "a.nii", seed=seed)
        zip_of(tmp_path, name, tmp_path / "s")
    size = (tmp_path / "s" / "a.nii").stat().st_size
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 2 * size + 10)
    shutil.rmtree(tmp_path / "s")
    assert cases(tmp_path) == ["one_a", "three_a"]
    assert "two.zip was left out: holds 1 files" in caplog.text
    (tmp_path / "outer").mkdir()
    with zipfile.ZipFile(tmp_path / "outer" / "outer.zip", "w") as archive:
        archive.write(tmp_path / "one.zip", "one.zip")
    with pytest.raises(InputError, match="holds no scan"):
        find_scans(tmp_path / "outer")
    nested = tmp_path / "outer" / "outer.zip" / "one.zip"
    assert f"{nested} was left out: lies in another archive" in caplog.text
    assert {one.path: one.skipped for one in find_studies(tmp_path / "outer")}[nested] == "lies in another archive"
    with pytest.raises(InputError, match="lies in another archive"):
        find_scans(tmp_path / "outer" / "outer.zip")


@pytest.mark.parametrize(
    ("name", "code", "reason", "remedy"),
    [
        ("a.tar.gz", "unread-archive", "is not a zip archive", "unpack it and give the folder"),
        ("a.mif", "unread-format", "has a format that is not read", "convert it to NIfTI"),
        ("A.MIF.GZ", "unread-format", "has a format that is not read", "convert it to NIfTI"),
        ("a.vtk", "unread-format", "has a format that is not read", "write it as NRRD or MetaImage"),
        ("a.ima", "damaged", "has the name or the mark of a DICOM file, but cannot be read as DICOM", "copy or export"),
    ],
)
def test_what_is_not_read_is_listed(tmp_path, caplog, name, code, reason, remedy):
    write_nifti(tmp_path / "scan.nii")
    (tmp_path / name).write_bytes(b"something")
    assert cases(tmp_path) == ["scan"]
    assert f"{tmp_path / name} was left out: {reason}; {remedy}" in caplog.text
    assert {one.path.name: one.skipped for one in find_studies(tmp_path)} == {"scan.nii": "", name: reason}
    (found,) = find_scans(tmp_path).left_out
    assert (found.path, found.code, found.is_refused) == (tmp_path / name, code, True)
    with pytest.raises(InputError, match=f"{reason}; {remedy}") as caught:
        find_scans(tmp_path / name)
    assert caught.value.code == code
    (tmp_path / "scan.nii").unlink()
    with pytest.raises(InputError, match=rf"left out 1 x {reason} \({code}\)") as caught:
        find_scans(tmp_path)
    assert caught.value.code == "no-scan"


def test_dicom_is_read_under_the_name_of_another_format(tmp_path):
    write_series(tmp_path / "s", suffix=".img")
    assert len(find_scans(tmp_path)) == 1
    assert [one.skipped for one in find_studies(tmp_path)] == [""]


def test_an_archive_without_a_scan_is_named_itself(tmp_path):
    for name, member in (("none.zip", None), ("text.zip", "notes.txt")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            if member:
                archive.writestr(member, "x")
        with pytest.raises(InputError) as refused:
            find_scans(tmp_path / name)
        assert str(refused.value).startswith(str(tmp_path / name))


def test_archives_below_the_results_are_not_looked_into(tmp_path):
    write_nifti(tmp_path / "scan.nii")
    write_nifti(tmp_path / "out" / "a.nii")
    zip_of(tmp_path / "out", "old", tmp_path / "out")
    assert [record["case"] for record in find_scans(tmp_path, exclude=tmp_path / "out")] == ["scan"]


def test_studies_of_an_archive_and_of_a_list(tmp_path):
    folder = two_series(tmp_path)
    source = Path(zip_of(tmp_path, "z", folder))
    assert [(one.path, one.number) for one in find_studies(source)] == [(source, 3), (source, 8)]
    write_nifti(tmp_path / "x" / "a.nii")
    files = [str(file.relative_to(tmp_path)) for file in sorted(folder.glob("b*"))]
    (tmp_path / "list.json").write_text(json.dumps([{"image": files}, "x/a.nii", "gone.nii"]))
    found = find_studies(tmp_path / "list.json")
    assert [(one.path.name, one.files, one.skipped) for one in found] == [
        ("gone.nii", 1, "does not exist"),
        ("mix", 6, ""),
        ("a.nii", 1, ""),
    ]


def test_studies_tell_study_plane_and_choice(tmp_path):
    folder = two_series(tmp_path)
    write_series(folder, prefix="l", slices=1, number=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(folder, prefix="s", number=9, orientation=(0, 1, 0, 0, 0, -1))
    found = {one.number: one for one in find_studies(folder, series="CT")}
    assert {number: one.skipped for number, one in found.items()} == {
        1: "localizer",
        3: "not chosen",
        8: "",
        9: "not chosen",
    }
    ds = pydicom.dcmread(next(folder.glob("b*")))
    assert (found[8].study, found[8].uid) == (ds.StudyInstanceUID, ds.SeriesInstanceUID)
    assert (found[8].plane, found[9].plane) == ("axial", "sagittal")
    with pytest.raises(InputError) as caught:
        find_studies(folder, series="T1")
    assert caught.value.code == "no-such-series"

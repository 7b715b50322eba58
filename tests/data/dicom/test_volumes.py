"""Volumes of one series, and series of one slice each: how they are told apart, named, chosen and put together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from monai_zsad.data import ScanReader, find_scans, find_studies
from monai_zsad.data.dicom import group_series
from monai_zsad.data.dicom.volume_keys import KEYS
from monai_zsad.data.dicom.volumes import find_volumes
from monai_zsad.errors import InputError
from monai_zsad.workflow.cases.names import find_cases
from tests.data.odd_inputs.catalogue import AXIAL, series_truth
from tests.data.odd_inputs.split_series import split
from tests.data.samples import write_series
from tests.data.test_odd_inputs import assert_in_place


def diffusion(folder: Path, **changes) -> list[Path]:
    """Six slices with b=0 and four with b=1000 at the same places."""
    places = [*range(6), *range(4)]
    return write_series(
        folder,
        slices=10,
        number=4,
        orientation=AXIAL,
        ImagePositionPatient=lambda i: [0, 0, 3.0 * places[i]],
        DiffusionBValue=lambda i: 0.0 if i < 6 else 1000.0,
        SeriesDescription="DWI",
        **changes,
    )


def test_each_volume_says_which_it_is_and_what_differs(tmp_path):
    diffusion(tmp_path / "s")
    records = find_scans(tmp_path / "s")
    assert {record["case"]: (record["part"], len(record["image"]), record["warnings"]) for record in records} == {
        "s_v1": (1, 6, "volume 1 of the 2 volumes of its series, which differ in DiffusionBValue"),
        "s_v2": (
            2,
            4,
            "volume 2 of the 2 volumes of its series, which differ in DiffusionBValue; it has 4 slices, the largest 6",
        ),
    }
    assert {record["warning_codes"] for record in records} == {"several-volumes-split"}
    found = find_studies(tmp_path / "s")
    assert sorted((one.part, one.shape[2], one.warning_codes) for one in found) == [
        (1, 6, ("several-volumes-split",)),
        (2, 4, ("several-volumes-split",)),
    ]


@pytest.mark.parametrize("choice", ["4:2", "MR:2", "dwi:2", " 4:2 "])
def test_a_volume_is_chosen(tmp_path, choice):
    files = diffusion(tmp_path / "s")
    write_series(tmp_path / "s", prefix="other", number=5)
    (record,) = find_scans(tmp_path / "s", series=choice)
    assert record["image"] == sorted(str(file) for file in files[6:])
    skipped = {(one.number, one.part): one.skipped for one in find_studies(tmp_path / "s", series=choice)}
    assert skipped == {(4, 1): "not chosen", (4, 2): "", (5, 0): "not chosen"}


def test_a_volume_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    diffusion(tmp_path / "s")
    write_series(tmp_path / "s", prefix="other", number=5)
    for choice in ("4:3", "5:1", ":2", "4:0"):
        with pytest.raises(InputError, match=r"4:1 \(MR\), 4:2 \(MR\), 5 \(MR\)") as caught:
            find_scans(tmp_path / "s", series=choice)
        assert caught.value.code == "no-such-series"
    assert len(find_scans(tmp_path / "s", series=4)) == 2


def test_the_name_of_a_volume_does_not_depend_on_what_else_is_screened(tmp_path, monkeypatch):
    monkeypatch.setenv("MONAI_ZSAD_SALT", "a salt of tests")
    diffusion(tmp_path / "s")
    both = {record["case"] for record in find_cases(tmp_path / "s", tmp_path / "out")}
    (second,) = find_cases(tmp_path / "s", tmp_path / "out", series="4:2")
    assert second["case"] in both
    assert {case[-3:] for case in both} == {"_v1", "_v2"}
    (named,) = find_cases(tmp_path / "s", tmp_path / "out", "uid", series="4:2")
    uid = pydicom.dcmread(second["image"][0]).SeriesInstanceUID
    assert named["case"] == f"{uid}_v2"


def test_the_message_of_files_given_directly_names_what_differs_and_how_to_choose(tmp_path):
    files = diffusion(tmp_path / "s")
    with pytest.raises(InputError, match=r"holds 2 volumes, which differ in DiffusionBValue; put .*volume=0") as caught:
        ScanReader().get_data(files)
    assert caught.value.code == "several-volumes"
    for volume, part in ((0, files[:6]), (1, files[6:])):
        values, meta = ScanReader(volume=volume).get_data(files)
        assert values.shape == (5, 7, len(part))
        # DICOM results refer to these files, so that other volumes at the same places must not be among them.
        assert meta["source_files"].splitlines() == [str(file) for file in part]


def test_a_number_of_a_volume_does_not_matter_for_one_volume(tmp_path):
    files = write_series(tmp_path / "s")
    np.testing.assert_array_equal(ScanReader(volume=3).get_data(files)[0], ScanReader().get_data(files)[0])


def test_an_unreadable_slice_beside_two_volumes_is_told_to_both(tmp_path):
    diffusion(tmp_path / "s")
    (tmp_path / "s" / "x.dcm").write_bytes(b"")
    codes = [record["warning_codes"].splitlines() for record in find_scans(tmp_path / "s")]
    assert codes == [["several-volumes-split", "unreadable-beside"]] * 2


def test_slices_of_a_uid_each_at_two_times_are_put_together_and_divided(tmp_path):
    """Some scanners give each place a SeriesInstanceUID, with all its time points."""
    uids = [generate_uid() for _ in range(5)]
    files = write_series(
        tmp_path / "s",
        slices=10,
        orientation=AXIAL,
        SeriesInstanceUID=lambda i: uids[i % 5],
        ImagePositionPatient=lambda i: [0, 0, 3.0 * (i % 5)],
        TemporalPositionIdentifier=lambda i: 1 + i // 5,
    )
    records = sorted(find_scans(tmp_path / "s"), key=lambda record: record["part"])
    for record, part in zip(records, (files[:5], files[5:]), strict=True):
        image, meta = ScanReader().get_data(record["image"])
        assert meta["warning_codes"] == "series-joined"
        assert "5 series of one slice each" in meta["warnings"]
        assert record["warning_codes"] == "several-volumes-split"
        assert image.shape == (5, 7, 5)
        assert record["image"] == sorted(map(str, part))


def test_a_joined_series_is_one_scan_under_any_order_of_its_files(tmp_path):
    files = split(tmp_path)
    truth = series_truth(files)
    for order in (files, files[::-1]):
        kept, _ = group_series(order)
        assert [len(one.files) for one in kept] == [6]
        assert kept[0].header.uid == min(pydicom.dcmread(file).SeriesInstanceUID for file in files)
    from monai.transforms import LoadImage

    image = LoadImage(ScanReader(), ensure_channel_first=True)([str(file) for file in files[::-1]])
    assert_in_place(image, truth)


def test_localizers_of_a_uid_each_stay_localizers(tmp_path):
    split(tmp_path, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    kept, skipped = group_series(sorted((tmp_path / "s").iterdir()))
    assert kept == []
    assert sum(len(one.files) for one in skipped) == 6


def random_values(rng: np.random.Generator, count: int) -> list[tuple]:
    """Fields of slices, some constant, some by parts of the slices, some of each slice, some absent."""
    columns = []
    for key in KEYS:
        kind = rng.integers(6)
        parts = rng.integers(2, 5)
        numbers = [
            np.full(count, 3), np.arange(count) % parts, parts * np.arange(count) // count, np.arange(count),
            rng.integers(0, parts, count), np.full(count, -1),
        ][kind]  # fmt: skip
        number = key.rule in ("place", "trigger") or key.tolerance > 0
        values = [None if n < 0 else (100.0 * n if number else f"value {n}") for n in numbers]
        if kind == 1 and rng.integers(2):
            values[int(rng.integers(count))] = None
        columns.append(values)
    return list(zip(*columns, strict=True))


def test_a_volume_is_not_divided_again():
    """What grouping takes for one volume, reading takes for one volume."""
    rng = np.random.default_rng(7)
    divided = 0
    for _ in range(400):
        count = int(rng.integers(1, 25))
        places = rng.permutation(3.0 * (np.arange(count) % rng.integers(1, count + 1)))
        values = random_values(rng, count)
        found = find_volumes(places.tolist(), values)
        assert sorted(index for part in found.parts for index in part) == list(range(count))
        assert (len(found.parts) > 1) == bool(found.keys)
        divided += len(found.parts) > 1
        for part in found.parts:
            again = find_volumes(places[part].tolist(), [values[index] for index in part])
            assert len(again.parts) == 1, (again.keys, part)
    assert divided > 100


def test_the_real_series_is_one_volume(shared):
    files = sorted((shared / "data" / "dicom_vs_seg_001").glob("*.dcm"))
    (one,), skipped = group_series(files)
    assert (len(one.files), one.part, one.repairs, skipped) == (120, 0, [], [])


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_fewer_images_than_the_headers_state(tmp_path, missing):
    """Without its last slices, a series has no gap."""
    files = write_series(tmp_path / "s", ImagesInAcquisition=6, orientation=AXIAL)
    for file in files[len(files) - missing :]:
        file.unlink()
    (record,) = find_scans(tmp_path / "s")
    (study,) = find_studies(tmp_path / "s")
    assert record.get("warning_codes", "") == ("fewer-images" if missing else "")
    assert study.warning_codes == (("fewer-images",) if missing else ())
    if missing:
        assert record["warnings"].startswith(f"it has {6 - missing} of the 6 images")


def test_headers_that_do_not_state_one_number_of_images(tmp_path):
    write_series(tmp_path / "a", ImagesInAcquisition=lambda i: 9 if i else 6)
    write_series(tmp_path / "b", number=2, ImagesInAcquisition=lambda i: 9 if i else "")
    # A localizer under the same series counts.
    write_series(
        tmp_path / "c",
        number=3,
        ImagesInAcquisition=6,
        ImageType=lambda i: ["ORIGINAL", "PRIMARY", "AXIAL" if i else "LOCALIZER"],
    )
    codes = [record.get("warning_codes", "") for record in find_scans(tmp_path)]
    assert codes == ["", "", "set-aside"]


@pytest.mark.parametrize("value", ["many", "6\\6", "-9"])
def test_a_stated_number_that_is_none(tmp_path, value):
    """The element says nothing about the pixels, so the scan is read as without it."""
    for file in write_series(tmp_path / "s"):
        dataset = pydicom.dcmread(file)
        dataset.add_new("ImagesInAcquisition", "LO", value.split("\\"))
        dataset.save_as(file)
    (record,) = find_scans(tmp_path / "s")
    assert len(record["image"]) == 6
    assert record.get("warning_codes", "") == ""

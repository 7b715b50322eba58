"""Sources whose images cannot be named one by one get no DICOM results; map and report are complete and say why."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pydicom
import pytest
from monai.data import MetaTensor
from pydicom.uid import generate_uid

from monai_zsad.errors import OutputError
from monai_zsad.writers import SaveDicomd, SaveResultsd, is_complete, verify_manifest
from monai_zsad.writers.dicom import KINDS, transforms
from monai_zsad.writers.records.fingerprint import fingerprint
from tests.data.samples import write_nifti
from tests.writers.dicom.results import MODEL, Case, dciodvfy_errors, make_case, save, series

PLAIN = {"anomaly.nii.gz", "candidates.nii.gz", "findings.csv", "findings.json", "manifest.json", "preview.png"}
PLAIN |= {"report.html", "scores.json"}


def changed_case(folder: Path, **changes: Any) -> Case:
    """A series that is read as usual, and whose headers change before the results are written.

    So the writers are tested for faults that the reader may refuse, or may repair.
    """
    case = make_case(series(folder / "in"))
    for index, file in enumerate(case.files):
        image = pydicom.dcmread(file)
        for keyword, value in changes.items():
            found = value(index) if callable(value) else value
            if found is None:
                delattr(image, keyword)
            else:
                with pydicom.config.disable_value_validation():
                    setattr(image, keyword, found)
        image.save_as(file, enforce_file_format=False)
    case.data |= {"volume_score": 0.5, "slice_scores": [], "scan": case.data["image"]}
    return case


def results(case: Case, folder: Path, kinds: Any = KINDS) -> tuple[dict[Any, Any], set[str]]:
    """The data after all writers, and the names of the files."""
    after = SaveResultsd("pred", folder, MODEL, dicom=kinds)(case.data)
    return after, {path.name for path in (folder / "anna").iterdir()}


UID = generate_uid()
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "one instance": ({"SOPInstanceUID": UID}, "its 6 slices have only 1 different SOPInstanceUIDs"),
    "two slices alike": (
        {"SOPInstanceUID": lambda index: UID if index < 2 else generate_uid()},
        "its 6 slices have only 5 different SOPInstanceUIDs",
    ),
    "no instance": (
        {"SOPInstanceUID": lambda index: None if index == 3 else generate_uid()},
        "1 of its 6 files have no",
    ),
    "empty instance": ({"SOPInstanceUID": ""}, "6 of its 6 files have no SOPInstanceUID"),
    "no class": ({"SOPClassUID": None}, "6 of its 6 files have no SOPClassUID"),
    "no valid instance": (
        {"SOPInstanceUID": lambda index: f"slice-{index}"},
        "6 of its 6 files have a SOPInstanceUID that is not a valid UID",
    ),
    "too long": (
        {"SOPInstanceUID": lambda index: "1." + "2" * 63 + str(index)},
        "6 of its 6 files have a SOPInstanceUID that is not a valid UID",
    ),
    "several studies": ({"StudyInstanceUID": lambda index: f"1.2.{index // 3}"}, "its slices belong to 2 studies"),
    "several series": ({"SeriesInstanceUID": lambda index: f"1.2.{index}"}, "its slices belong to 6 series"),
    "no frame of reference": ({"FrameOfReferenceUID": None}, "6 of its 6 files have no FrameOfReferenceUID"),
    "no study": ({"StudyInstanceUID": None}, "6 of its 6 files have no StudyInstanceUID"),
    "no orientation": ({"ImageOrientationPatient": None}, "header lacks ImageOrientationPatient"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_map_and_report_are_complete_and_say_why(tmp_path, fault, caplog):
    changes, reason = FAULTS[fault]
    case = changed_case(tmp_path, **changes)
    after, names = results(case, tmp_path / "out")
    assert names == PLAIN
    assert after["warning_codes"] == "no-dicom-results"
    (sentence,) = after["warnings"]
    assert reason in sentence
    page = (tmp_path / "out" / "anna" / "report.html").read_text()
    assert reason in page
    for kind in ("findings", "scores"):
        record = json.loads((tmp_path / "out" / "anna" / f"{kind}.json").read_text())
        assert sentence in record["warnings"]
    manifest = json.loads((tmp_path / "out" / "anna" / "manifest.json").read_text())
    assert manifest["warning_codes"] == ["no-dicom-results"]
    assert set(manifest["files"]) == PLAIN - {"manifest.json"}
    assert verify_manifest(tmp_path / "out", "anna") == []
    assert reason in caplog.text
    assert str(tmp_path / "in") not in caplog.text
    for file in case.files:
        assert file.name not in sentence


def test_a_single_writer_raises_if_it_is_strict(tmp_path):
    case = changed_case(tmp_path, SOPInstanceUID=UID)
    with pytest.raises(OutputError, match=r"only 1 different SOPInstanceUIDs.*leave DICOM results out"):
        save(case, tmp_path / "out", strict=True)
    assert not list((tmp_path / "out").rglob("*.*"))


def test_leading_zeros_of_a_uid_do_not_hinder_a_reference(tmp_path):
    case = changed_case(tmp_path, SOPInstanceUID=lambda index: f"1.2.007.{index}")
    paths = save(case, tmp_path / "out")
    named = {item.ReferencedSOPInstanceUID for item in pydicom.dcmread(paths["seg"]).SourceImageSequence}
    assert named == {f"1.2.007.{index}" for index in range(6)}


def test_copies_of_a_slice_that_the_reader_dropped_do_not_hinder(tmp_path):
    files = series(tmp_path / "in")
    copy = tmp_path / "in" / "copy.dcm"
    copy.write_bytes(files[2].read_bytes())
    case = make_case([*files, copy])
    paths = save(case, tmp_path / "out")
    assert all(path.is_file() for path in paths.values())
    assert dciodvfy_errors(paths["seg"]) == set()


def test_scans_of_other_formats_say_so_too(tmp_path):
    case = changed_case(tmp_path)
    write_nifti(tmp_path / "scan.nii.gz")
    for key in ("pred", "image"):
        case.data[key].meta["source_files"] = str(tmp_path / "scan.nii.gz")
    after, names = results(case, tmp_path / "out")
    assert names == PLAIN
    assert after["warnings"] == ["no DICOM results: the scan was not read from DICOM files"]
    case.data["image"].meta["warning_codes"] = "slices-interpolated"
    after, names = results(case, tmp_path / "again")
    assert "its slices are not those of the files any more (slices-interpolated)" in after["warnings"][0]
    assert names == PLAIN


def test_objects_of_an_earlier_run_do_not_stay(tmp_path):
    case = changed_case(tmp_path)
    _, names = results(case, tmp_path / "out")
    assert names == PLAIN | {f"{kind}.dcm" for kind in KINDS}
    for file in case.files:
        image = pydicom.dcmread(file)
        image.SOPInstanceUID = UID
        image.save_as(file)
    _, names = results(case, tmp_path / "out")
    assert names == PLAIN


@pytest.mark.parametrize("error", [RuntimeError("Doe^Jane"), OSError(28, "No space left"), MemoryError()], ids=str)
def test_any_failure_leaves_the_other_files_complete_and_a_resumed_run_tries_again(
    tmp_path, monkeypatch, caplog, error
):
    case = changed_case(tmp_path)

    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(transforms, "dicom_objects", fail)
        after, names = results(case, tmp_path / "out")
    assert names == PLAIN
    assert after["warning_codes"] == "dicom-failed"
    assert type(error).__name__ in after["warnings"][0]
    assert "Doe^Jane" not in caplog.text + (tmp_path / "out" / "anna" / "report.html").read_text()
    print_of_now = fingerprint(MODEL, {}, case.data["image"].meta["source_files"])
    assert not is_complete(tmp_path / "out", "anna", print_of_now)
    assert verify_manifest(tmp_path / "out", "anna") == [
        "manifest.json: DICOM results could not be written when the case was run"
    ]
    after, names = results(case, tmp_path / "out")
    assert names == PLAIN | {f"{kind}.dcm" for kind in KINDS}
    assert "warning_codes" not in after
    assert is_complete(tmp_path / "out", "anna", print_of_now)


def test_a_source_that_can_have_no_dicom_results_is_complete_and_not_tried_again(tmp_path):
    case = changed_case(tmp_path, SOPInstanceUID=UID)
    results(case, tmp_path / "out")
    assert is_complete(tmp_path / "out", "anna", fingerprint(MODEL, {}, case.data["image"].meta["source_files"]))


def test_a_lost_source_is_said(tmp_path, caplog):
    case = changed_case(tmp_path)
    assert isinstance(case.data["pred"], MetaTensor)
    case.files[3].unlink()
    with caplog.at_level(logging.WARNING):
        after, names = results(case, tmp_path / "out")
    assert names == PLAIN
    assert after["warning_codes"] == "dicom-failed"
    assert "cannot be read again" in caplog.text


def test_warnings_of_single_writers_add_up(tmp_path):
    case = changed_case(tmp_path, SOPInstanceUID=UID)
    case.data |= {"warnings": "a warning of the search", "warning_codes": "set-aside"}
    after = SaveDicomd("pred", tmp_path / "out", KINDS, MODEL)(case.data)
    assert after["warnings"][0] == "a warning of the search"
    assert after["warning_codes"] == "set-aside\nno-dicom-results"
    assert case.data["warning_codes"] == "set-aside"

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from highdicom import sr
from monai.data import MetaTensor

from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.writers import SEEDED_WARNING, UNFAMILIAR_WARNING, SaveDicom, SaveDicomd
from tests.data.samples import strip_mark, write_nifti, write_series
from tests.writers.dicom.results import MODEL, make_case, save, series


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    case = make_case(series(folder / "in"))
    return case, save(case, folder / "out")


def test_segments_are_described(written):
    seg = pydicom.dcmread(written[1]["seg"])
    assert (seg.Modality, seg.SegmentationType, len(seg.SegmentSequence)) == ("SEG", "BINARY", 2)
    for number, segment in enumerate(seg.SegmentSequence, start=1):
        assert (segment.SegmentNumber, segment.SegmentLabel) == (number, f"Lesion candidate {number}")
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lesion"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        used = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert used.AlgorithmName == "monai-zsad Crane"
        assert "weights.clip=ViT-L-14-336:openai" in used.AlgorithmParameters
    assert len({segment.TrackingUID for segment in seg.SegmentSequence}) == 2


def test_unfamiliar_scans_are_marked_in_every_object(written, tmp_path):
    case, others = written
    told = make_case(case.files)
    told.data["unfamiliar"] = True
    paths = save(told, tmp_path)
    for kind in ("seg", "pm"):
        assert pydicom.dcmread(paths[kind]).ContentDescription == UNFAMILIAR_WARNING
        assert pydicom.dcmread(others[kind]).ContentDescription != UNFAMILIAR_WARNING
    comments = [item.TextValue for item in pydicom.dcmread(paths["sr"]).ContentSequence if "TextValue" in item]
    assert comments[-1] == UNFAMILIAR_WARNING


def test_map_states_its_quantity_and_unit(written):
    pm = pydicom.dcmread(written[1]["pm"])
    mapping = pm.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeMeaning == "no units"
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeMeaning == "Anomaly score"
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    assert pm.ContentQualification == "RESEARCH"


def test_report_measures_each_candidate_and_names_segment_and_map(written):
    case, paths = written
    seg, pm = pydicom.dcmread(paths["seg"]), pydicom.dcmread(paths["pm"])
    report = sr.srread(paths["sr"])
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == len(case.candidates) == 2
    for group, segment, candidate in zip(groups, seg.SegmentSequence, case.candidates, strict=True):
        assert (group.tracking_uid, group.tracking_identifier) == (segment.TrackingUID, segment.TrackingID)
        assert group.reference_type.meaning == "Referenced Segment"
        named = next(item for item in group[0].ContentSequence if item.ValueType == "IMAGE").ReferencedSOPSequence[0]
        assert named.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert named.ReferencedSegmentNumber == segment.SegmentNumber
        found = {(m.name.meaning, m.derivation.meaning if m.derivation else None): m for m in group.get_measurements()}
        volume = found["Volume", None]
        assert (volume.value, volume.unit.value) == (pytest.approx(round(candidate.volume_mm3, 3), rel=1e-9), "mm3")
        peak, mean = found["Anomaly score", "Maximum"], found["Anomaly score", "Mean"]
        assert peak.value == pytest.approx(round(candidate.peak_score, 6), rel=1e-9)
        assert mean.value == pytest.approx(round(candidate.mean_score, 6), rel=1e-9)
        assert peak.unit.value == "1"
        assert peak.referenced_images[0].referenced_sop_instance_uid == pm.SOPInstanceUID
    evidence = {
        item.ReferencedSOPInstanceUID
        for study in pydicom.dcmread(paths["sr"]).CurrentRequestedProcedureEvidenceSequence
        for of_series in study.ReferencedSeriesSequence
        for item in of_series.ReferencedSOPSequence
    }
    sources = {pydicom.dcmread(file).SOPInstanceUID for file in case.files}
    assert evidence == {seg.SOPInstanceUID, pm.SOPInstanceUID} | sources


def test_report_has_the_p_values_of_a_calibration(tmp_path):
    case = make_case(series(tmp_path / "in"))
    case.data |= {"pred_p_values": [0.05, 1.0], "volume_p_value": 0.25}
    report = sr.srread(save(case, tmp_path / "out")["sr"])
    groups = report.content.get_volumetric_roi_measurement_groups()
    found = [m for group in groups for m in group.get_measurements() if m.name.value == "conformal-p-value"]
    assert [(m.value, m.unit.value, m.name.scheme_designator) for m in found] == [
        (pytest.approx(0.05), "1", "99MONAIZSAD"),
        (1.0, "1", "99MONAIZSAD"),
    ]
    text = report.to_json()
    assert text.count("Conformal p-value among reference scans") == 3
    assert "Whole scan" in text
    case.data["pred_p_values"] = [0.5]
    with pytest.raises(OutputError, match="2 candidates, but 1 p-values"):
        save(case, tmp_path / "out")


def test_report_without_a_candidate_still_has_the_scans_p_value(tmp_path):
    case = make_case(series(tmp_path / "in"), threshold=2.0)
    case.data |= {"pred_p_values": [], "volume_p_value": 0.75}
    text = sr.srread(save(case, tmp_path / "out")["sr"]).to_json()
    assert "No lesion candidate above the threshold" in text
    assert text.count("Conformal p-value among reference scans") == 1


def test_capture_is_a_picture_in_the_same_study(tmp_path):
    files = series(tmp_path / "in")
    case = make_case(files)
    case.data["volume_score"] = 0.5
    path = save(case, tmp_path / "out", kinds=("seg", "pm", "sr", "sc"))["sc"]
    capture, source = pydicom.dcmread(path), pydicom.dcmread(files[0])
    assert (capture.SOPClassUID.name, capture.ConversionType) == ("Secondary Capture Image Storage", "WSD")
    assert (capture.BurnedInAnnotation, capture.PhotometricInterpretation) == ("NO", "RGB")
    assert (capture.StudyInstanceUID, capture.PatientID) == (source.StudyInstanceUID, source.PatientID)
    assert capture.SeriesInstanceUID != source.SeriesInstanceUID
    assert "not for clinical use" in capture.SeriesDescription
    pixels = capture.pixel_array
    assert pixels.shape == (capture.Rows, capture.Columns, 3)
    assert min(pixels.shape[:2]) > 100
    assert (pixels.max(-1) - pixels.min(-1)).max() > 60, "the map has colours"
    # Neither the patient nor the case can be in the picture: it is the same for another one.
    case.data["case"] = "Doe, Jane"
    other = save(case, tmp_path / "other", kinds=("seg", "pm", "sr", "sc"))["sc"].parents[1] / "Doe, Jane"
    assert np.array_equal(pydicom.dcmread(other / "sc.dcm").pixel_array, pixels)
    seeded = save(case, tmp_path / "seeded", kinds="sc", meta={"clip_weights": "seed:0"})["seg"].parents[1]
    assert pydicom.dcmread(seeded / "Doe, Jane" / "sc.dcm").DerivationDescription == SEEDED_WARNING


def test_capture_needs_the_scan(tmp_path):
    case = make_case(series(tmp_path / "in"))
    del case.data["image"]
    with pytest.raises(OutputError, match="needs the scan"):
        save(case, tmp_path / "out", kinds="sc")


def test_report_is_preliminary(written):
    report = pydicom.dcmread(written[1]["sr"])
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"


def comments(path):
    return [
        item.TextValue
        for item in pydicom.dcmread(path).ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Comment"
    ]


def test_every_object_says_that_it_is_not_for_clinical_use(written):
    for path in written[1].values():
        assert "not for clinical use" in pydicom.dcmread(path).SeriesDescription
    assert comments(written[1]["sr"]) == ["Research output, not for clinical use"]


def test_seeded_weights_are_said_everywhere(tmp_path):
    case = make_case(series(tmp_path / "in"))
    paths = save(case, tmp_path / "out", meta=lambda: {"method": "Crane", "clip_weights": "seed:0"})
    for path in paths.values():
        assert pydicom.dcmread(path).SeriesDescription.startswith("RANDOM WEIGHTS, meaningless")
    assert SEEDED_WARNING in comments(paths["sr"])
    assert pydicom.dcmread(paths["seg"]).ContentDescription == SEEDED_WARNING
    assert pydicom.dcmread(paths["pm"]).ContentDescription == SEEDED_WARNING


def test_every_write_has_new_uids_and_an_empty_preamble(tmp_path, written):
    case, paths = written
    again = save(case, tmp_path)
    for kind, path in paths.items():
        first, second = pydicom.dcmread(path), pydicom.dcmread(again[kind])
        assert path.read_bytes()[:132] == b"\0" * 128 + b"DICM"
        assert first.SOPInstanceUID != second.SOPInstanceUID
        assert first.SeriesInstanceUID != second.SeriesInstanceUID
        assert first.StudyInstanceUID == second.StudyInstanceUID
    uids = {pydicom.dcmread(path).SeriesInstanceUID for path in paths.values()}
    assert len(uids) == 3


@pytest.mark.parametrize("count", [1, 2])
def test_each_frame_names_its_segment_itself(tmp_path, count):
    case = make_case(series(tmp_path / "in"))
    case.data["pred_labels"][case.data["pred_labels"] > count] = 0
    case.data["pred_candidates"] = case.candidates[:count]
    seg = pydicom.dcmread(save(case, tmp_path / "out")["seg"])
    assert "SegmentIdentificationSequence" not in seg.SharedFunctionalGroupsSequence[0]
    numbers = {
        groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for groups in seg.PerFrameFunctionalGroupsSequence
    }
    assert numbers == set(range(1, count + 1))


def test_without_candidates_the_report_says_so_and_no_segmentation_remains(tmp_path, caplog):
    files = series(tmp_path / "in")
    paths = save(make_case(files), tmp_path / "out")
    assert paths["seg"].is_file()
    with caplog.at_level(logging.INFO, "monai_zsad"):
        save(make_case(files, threshold=2.0), tmp_path / "out")
    assert not paths["seg"].exists()
    assert "no lesion candidates, so no seg.dcm" in caplog.text
    group = sr.srread(paths["sr"]).content.get_image_measurement_groups()[0]
    (evaluation,) = group.get_qualitative_evaluations()
    assert evaluation.value.meaning == "No lesion candidate above the threshold"
    evidence = pydicom.dcmread(paths["sr"]).CurrentRequestedProcedureEvidenceSequence[0]
    assert pydicom.dcmread(paths["pm"]).SeriesInstanceUID in {
        item.SeriesInstanceUID for item in evidence.ReferencedSeriesSequence
    }


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_dicoms_mark_have_results_too(tmp_path, implicit):
    files = series(tmp_path / "in")
    marked = {pydicom.dcmread(file).SOPInstanceUID for file in files}
    for file in files:
        strip_mark(file, implicit)
    paths = save(make_case(files), tmp_path / "out", kinds=("seg", "pm", "sr", "sc"))
    assert set(paths) == {"seg", "pm", "sr", "sc"}
    for kind in ("seg", "pm"):
        written = pydicom.dcmread(paths[kind])
        assert str(written.PatientName) == "Doe^Jane"
        assert {
            item.ReferencedSOPInstanceUID for item in written.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        } == marked


def test_data_pass_unchanged(tmp_path):
    case = make_case(series(tmp_path / "in"))
    before = case.data["pred"].clone()
    after = SaveDicomd(keys="pred", output_dir=tmp_path / "out", meta=MODEL)(case.data)
    assert after == case.data
    assert torch.equal(after["pred"], before)


def test_files_are_found_in_the_image_where_the_map_does_not_know_them(tmp_path):
    case = make_case(series(tmp_path / "in"))
    case.data["image"] = case.data["pred"].clone()
    del case.data["pred"].meta["source_files"]
    assert all(path.is_file() for path in save(case, tmp_path / "out").values())


def test_other_formats_are_logged_and_nothing_is_written(tmp_path, caplog):
    write_nifti(tmp_path / "scan.nii.gz")
    pred = MetaTensor(torch.zeros(1, 8, 9, 5), affine=torch.eye(4), meta={"source_files": f"{tmp_path}/scan.nii.gz"})
    data: dict[Hashable, Any] = {
        "case": "anna",
        "pred": pred,
        "pred_labels": torch.zeros(1, 8, 9, 5),
        "pred_candidates": [],
    }
    SaveDicomd(keys="pred", output_dir=tmp_path / "out")(data)
    assert "'anna': the scan was not read from DICOM files" in caplog.text
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="give a DICOM series"):
        SaveDicomd(keys="pred", output_dir=tmp_path / "out", strict=True)(data)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_non_finite_map_is_refused(tmp_path, value):
    case = make_case(series(tmp_path / "in"))
    case.data["pred"][0, 1, 2, 3] = value
    with pytest.raises(OutputError, match="1 of 210 values are NaN or infinite"):
        save(case, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.dcm"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pred_labels": torch.zeros(1, 5, 7, 5, dtype=torch.uint8)}, "label map has the shape"),
        ({"pred_labels": torch.zeros(1, 5, 7, 6, dtype=torch.uint8)}, "candidate 1 has no voxel"),
        ({"pred_labels": torch.full((1, 5, 7, 6), 0.5)}, "other than whole numbers"),
        ({"pred_labels": None}, "put LesionCandidatesd before SaveDicomd"),
        ({"case": "../anna"}, "cannot name a folder"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, changes, message):
    case = make_case(series(tmp_path / "in"))
    case.data.update(changes)
    with pytest.raises(OutputError, match=message):
        save(case, tmp_path / "out")
    assert not list(tmp_path.rglob("*.dcm.*"))
    assert not (tmp_path / "out" / "anna" / "sr.dcm").exists()


def test_lost_or_damaged_source_is_named(tmp_path):
    case = make_case(series(tmp_path / "in"))
    case.files[3].unlink()
    with pytest.raises(OutputError, match="cannot be read again"):
        save(case, tmp_path / "out")


def test_folder_that_cannot_be_made_is_named(tmp_path):
    case = make_case(series(tmp_path / "in"))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        save(case, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("seg", "rt")}, "give some of 'seg', 'pm', 'sr'"),
        ({"kinds": ()}, "give some of"),
        ({"kinds": ("sr",)}, "add 'seg'"),
        ({"map_dtype": "uint8"}, "'float32' and 'uint16'"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        SaveDicom("out", **options)


def test_headers_without_patient_and_study_are_enough(tmp_path):
    case = make_case(write_series(tmp_path / "in"))
    paths = save(case, tmp_path / "out")
    assert pydicom.dcmread(paths["sr"]).PatientID == "P"
    assert pydicom.dcmread(paths["seg"]).PatientName == ""


@pytest.mark.parametrize(
    "odd",
    [
        {"PatientSex": "U"},
        {"PatientBirthDate": "01/02/1970"},
        {"StudyTime": "25:61"},
        {"PatientName": "only one component"},
        {"PatientName": "Müller^Jürgen", "SpecificCharacterSet": "ISO_IR 100"},
        {"SeriesNumber": 2147483600},
        {"SeriesNumber": 0},
        {"SeriesNumber": None},
        {"SliceThickness": None},
        {"StudyDescription": "x" * 80},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_headers_are_written_or_refused_in_a_sentence(tmp_path, odd):
    case = make_case(series(tmp_path / "in", **odd))
    paths = save(case, tmp_path / "out")
    for path in paths.values():
        result = pydicom.dcmread(path)
        for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyTime", "StudyDescription"):
            if keyword in odd:
                assert str(result[keyword].value) == odd[keyword]
        assert result.SeriesNumber >= 1

"""What a validator says of the objects, against the library's own minimal ones; and what they must not carry."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom import sr
from pydicom.sr.codedict import codes

from monai_zsad.writers import SaveDicomd
from monai_zsad.writers.dicom import KINDS
from tests.writers.dicom.results import dciodvfy_errors, make_case, save, series

ABOUT = {
    "series_number": 7,
    "instance_number": 1,
    "manufacturer": "M",
    "manufacturer_model_name": "N",
    "software_versions": "1",
    "device_serial_number": "1",
}


def minimal_objects(files: list[Path], folder: Path) -> dict[str, Path]:
    """The least that the library makes of the same source."""
    images = [pydicom.dcmread(file) for file in files]
    shape = (len(images), images[0].Rows, images[0].Columns)
    mask = np.zeros(shape, dtype=bool)
    mask[1, 1:3, 1:3] = True
    described = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="S",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type="MANUAL",
    )

    def about() -> dict:
        return {**ABOUT, "series_instance_uid": highdicom.UID(), "sop_instance_uid": highdicom.UID()}

    seg = highdicom.seg.Segmentation(images, mask, "BINARY", [described], **about())
    mapping = highdicom.pm.RealWorldValueMapping("L", "E", codes.UCUM.NoUnits, (0.0, 1.0))
    window = highdicom.VOILUTTransformation(window_center=0.5, window_width=1.0)
    pm = highdicom.pm.ParametricMap(
        images,
        np.zeros(shape, dtype=np.float32),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[window],
        **about(),
    )
    device = sr.ObserverContext(codes.DCM.Device, sr.DeviceObserverIdentifyingAttributes(uid=highdicom.UID()))
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[sr.MeasurementsAndQualitativeEvaluations(sr.TrackingIdentifier(highdicom.UID(), "T"))],
    )
    document = sr.Comprehensive3DSR(evidence=images, content=report[0], **about())
    capture = highdicom.sc.SCImage.from_ref_dataset(
        images[0], np.zeros((4, 4, 3), np.uint8), "RGB", 8, "PATIENT", patient_orientation=("L", "P"), **about()
    )
    paths = {}
    for kind, result in {"seg": seg, "pm": pm, "sr": document, "sc": capture}.items():
        paths[kind] = folder / f"minimal_{kind}.dcm"
        result.save_as(paths[kind])
    return paths


@pytest.mark.parametrize("changes", [{"calibrated": True}, {"threshold": 2.0}, {"map_dtype": "uint16"}], ids=str)
@pytest.mark.parametrize("kind", ["tilted", "sagittal", "coronal CT"])
def test_validator_finds_no_error_that_the_librarys_minimal_objects_lack(tmp_path, kind, changes):
    files = series(tmp_path / "in", kind)
    options = dict(changes)
    case = make_case(files, threshold=options.pop("threshold", 0.5))
    if options.pop("calibrated", False):
        case.data |= {"pred_p_values": [0.05, 1.0], "volume_p_value": 0.25}
    paths = save(case, tmp_path / "out", kinds=KINDS, **options)
    for name, minimal in minimal_objects(files, tmp_path).items():
        if paths[name].is_file():
            assert dciodvfy_errors(paths[name]) <= dciodvfy_errors(minimal)


def test_validator_finds_what_is_wrong(tmp_path):
    path = save(make_case(series(tmp_path / "in")), tmp_path / "out", kinds="seg")["seg"]
    broken = pydicom.dcmread(path)
    del broken.SegmentSequence
    broken.save_as(path)
    assert any("SegmentSequence" in line for line in dciodvfy_errors(path))


def shared_with_study() -> set[str]:
    """What belongs to the patient and the study by the standard, and stands in every object of the study."""
    from highdicom._standard_utils import get_module_attribute_map

    modules = get_module_attribute_map()
    names = ("patient", "clinical-trial-subject", "general-study", "patient-study", "clinical-trial-study")
    return {item["keyword"] for name in names for item in modules[name] if not item["path"]}


def text_keywords() -> dict[str, str]:
    """Every attribute of the standard's dictionary that holds free text or a name, with its type of value."""
    from pydicom._dicom_dict import DicomDictionary

    return {
        keyword: vr
        for tag, (vr, _, _, _, keyword) in DicomDictionary.items()
        if vr in ("PN", "LO", "SH", "LT", "ST", "UT", "UC", "AE", "UR") and keyword and tag >> 16 not in (0, 2, 4)
    }


def test_planted_names_stay_with_patient_and_study(tmp_path, caplog, capfd):
    planted = {}
    for number, (keyword, vr) in enumerate(sorted(text_keywords().items())):
        planted[keyword] = f"ZQ{number:04d}^Odd" if vr == "PN" else f"ZQ{number:04d}"
    files = series(tmp_path / "in")
    for file in files:
        image = pydicom.dcmread(file)
        for keyword, value in planted.items():
            setattr(image, keyword, value)
        image.PatientName = "ZQ9999 one component"
        image.Manufacturer = "ACME"
        image.private_block(0x0011, "ZQ8888", create=True).add_new(1, "LO", "ZQ7777")
        image.save_as(file)
    case = make_case(files)
    caplog.clear()
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        paths = save(case, tmp_path / "out", kinds=KINDS)
    said = "".join([caplog.text, *capfd.readouterr(), *(str(item.message) for item in caught)])
    assert "ZQ" not in said
    source = pydicom.dcmread(files[0])
    for path in paths.values():
        result = pydicom.dcmread(path)
        found = {element.keyword for element in result if "ZQ" in str(element)}
        assert found <= shared_with_study(), f"{path.name}: {sorted(found - shared_with_study())}"
        for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyID"):
            assert result[keyword].value == source[keyword].value
        assert b"ZQ7777" not in path.read_bytes()
        if result.Modality != "OT":
            assert "ACME" in {item.Manufacturer for item in result.ContributingEquipmentSequence}
    assert {"PatientName", "StudyDescription"} <= found


def test_kinds_are_written_alone(tmp_path):
    case = make_case(series(tmp_path / "in"))
    SaveDicomd(keys="pred", output_dir=tmp_path / "out", kinds="seg")(case.data)
    assert [file.name for file in (tmp_path / "out" / "anna").iterdir()] == ["seg.dcm"]

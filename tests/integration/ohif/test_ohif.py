"""Results in a DICOMweb server, read as OHIF reads them, against the NIfTI files of the same run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from monai_zsad.writers import SaveResultsd
from tests.data.samples import write_series
from tests.integration.ohif.viewer import Reader
from tests.integration.ohif.viewer import ohif as ohif
from tests.integration.orthanc import client as client
from tests.writers.dicom.results import COMPLETE, MODEL, OBLIQUE, Case, make_case

pytestmark = pytest.mark.slow

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# 36 pixels: frames of single bits do not begin at a byte, and Cornerstone3D reads only maps of a multiple of 4 pixels.
SIDE = 6
SERIES: dict[str, dict[str, Any]] = {
    "axial": {"orientation": AXIAL},
    "axial reversed": {"orientation": AXIAL, "step": -2.5, "SliceThickness": 2.5},
    "oblique": {"orientation": OBLIQUE},
    "oblique reversed": {"orientation": OBLIQUE, "step": -1.5, "SliceThickness": 1.5},
    "numbers reversed": {"InstanceNumber": lambda index: index + 1},
}


def pixels(index: int) -> bytes:
    return np.random.default_rng(index).integers(0, 900, (SIDE, SIDE)).astype("<i2").tobytes()


def stored(client: Any, case: Case, results: Path, folder: Path) -> dict[str, Any]:
    """Store scan and results; what the server then gives to a viewer."""
    paths = {path.stem: path for path in results.glob("*.dcm")}
    answer = client.store_instances([pydicom.dcmread(path) for path in [*case.files, *paths.values()]])
    assert not answer.get("FailedSOPSequence")
    study: dict[str, Any] = {"results": {}}
    scan = pydicom.dcmread(case.files[0])
    study["source"] = client.retrieve_series_metadata(scan.StudyInstanceUID, scan.SeriesInstanceUID)
    for kind, path in paths.items():
        result = pydicom.dcmread(path)
        names = result.StudyInstanceUID, result.SeriesInstanceUID, result.SOPInstanceUID
        copy = folder / path.name
        client.retrieve_instance(*names).save_as(copy)
        study["results"][kind] = {"file": str(copy), "metadata": client.retrieve_instance_metadata(*names)}
    return study


def on_slice(image: nibabel.Nifti1Image, source: pydicom.Dataset) -> np.ndarray:
    """Values (rows, columns) of a volume at the centres of a slice's pixels."""
    rows, columns = np.mgrid[: source.Rows, : source.Columns]
    down, across = source.PixelSpacing
    direction = np.array(source.ImageOrientationPatient, dtype=float)
    lps = (
        np.array(source.ImagePositionPatient, dtype=float)
        + columns[..., None] * across * direction[:3]
        + rows[..., None] * down * direction[3:]
    )
    ras = lps * (-1, -1, 1)
    index = nibabel.affines.apply_affine(np.linalg.inv(image.affine), ras)
    np.testing.assert_allclose(index, index.round(), atol=1e-3)
    return np.asanyarray(image.dataobj)[tuple(index.round().astype(int).transpose(2, 0, 1))]


def compare(seen: dict[str, Any], case: Case, results: Path) -> int:
    """Compare what OHIF reads with the NIfTI files, slice by slice; the number of voxels of candidates."""
    labels, anomaly = (nibabel.load(results / f"{name}.nii.gz") for name in ("candidates", "anomaly"))
    found = 0
    sources = [pydicom.dcmread(file) for file in case.files]
    assert set(seen["seg"]["labels"]) == set(seen["pm"]) == {source.SOPInstanceUID for source in sources}
    for source in sources:
        # One label map, because candidates do not overlap.
        (shown,) = seen["seg"]["labels"][source.SOPInstanceUID]
        expected = on_slice(labels, source)
        np.testing.assert_array_equal(np.reshape(shown, expected.shape), expected)
        found += int(np.count_nonzero(shown))
        expected = on_slice(anomaly, source)
        np.testing.assert_array_equal(np.float32(seen["pm"][source.SOPInstanceUID]).reshape(expected.shape), expected)
    assert found == np.count_nonzero(labels.dataobj)
    return found


def screened(case: Case, folder: Path) -> Path:
    case.data |= {"volume_score": 0.5, "slice_scores": [], "scan": case.data["image"]}
    SaveResultsd("pred", folder, MODEL, dicom=("seg", "pm", "sr"))(case.data)
    return folder / "anna"


def read(client: Any, ohif: Reader, folder: Path, kind: str, **options: Any) -> tuple[dict[str, Any], Case, Path]:
    header = {**COMPLETE, "Rows": SIDE, "Columns": SIDE, "PixelData": pixels, **SERIES[kind]}
    case = make_case(write_series(folder / "in", **header), **options)
    results = screened(case, folder / "out")
    return ohif(folder, stored(client, case, results, folder)), case, results


@pytest.mark.parametrize("kind", SERIES)
def test_label_map_and_map_lie_on_their_slices(client, ohif: Reader, tmp_path, kind):
    seen, case, results = read(client, ohif, tmp_path, kind)
    assert len(case.candidates) == 2
    assert compare(seen, case, results) > 0


def test_one_frame_and_one_segment(client, ohif: Reader, tmp_path):
    values = np.zeros((SIDE, SIDE, 6), dtype=np.float32)
    values[1, 4, 2] = 1
    seen, case, results = read(client, ohif, tmp_path, "oblique", values=values)
    assert compare(seen, case, results) == len(case.candidates) == 1


def test_report_holds_the_findings(client, ohif: Reader, tmp_path):
    seen, _, results = read(client, ohif, tmp_path, "axial")
    findings = json.loads((results / "findings.json").read_text())["candidates"]
    names = [f"Lesion candidate {item['id']}" for item in findings]
    assert seen["seg"]["segments"] == names
    assert seen["sr"]["isImagingMeasurementReport"]
    assert [item["TrackingIdentifier"] for item in seen["sr"]["measurements"]] == names
    expected = []
    for item, measurement in zip(findings, seen["sr"]["measurements"], strict=True):
        expected += [
            ["Volume", pytest.approx(item["volume_mm3"], abs=6e-4)],
            ["Anomaly score", pytest.approx(item["peak_score"], abs=6e-7)],
            ["Anomaly score", pytest.approx(item["mean_score"], abs=6e-7)],
        ]
        # OHIF leaves out a number that names a source image.
        (shown,) = measurement["labels"]
        assert shown["label"] == "Volume"
        assert float(shown["value"].removesuffix(" mm3")) == pytest.approx(item["volume_mm3"], abs=0.0051)
    assert seen["sr"]["numbers"] == expected


def test_report_without_candidates(client, ohif: Reader, tmp_path):
    seen, _, results = read(client, ohif, tmp_path, "axial", threshold=2.0)
    assert "seg" not in seen
    assert not (results / "seg.dcm").exists()
    (measurement,) = seen["sr"]["measurements"]
    assert measurement["TrackingIdentifier"] == "No lesion candidate"
    assert seen["sr"]["numbers"] == []

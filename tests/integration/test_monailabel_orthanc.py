"""A real MONAI Label server over a real Orthanc: series come by DICOMweb, labels go back as DICOM SEG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import nibabel.affines
import numpy as np
import pydicom
import pytest

from monai_zsad.integrations.monailabel.screener import screen_image
from monai_zsad.integrations.monailabel.served import ServedBundle
from monai_zsad.workflow.bundles import find_bundle
from tests.integration.label_servers import LabelServer, label_python, running_label_server
from tests.integration.orthanc import running_orthanc
from tests.integration.test_monailabel import SLICER, read_nrrd

pytestmark = pytest.mark.slow

MODEL = "tiny_screening"
SLICES = 16


@pytest.fixture(scope="module")
def series(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Neighbouring slices from the middle of a real MR series."""
    files = sorted((shared / "data" / "dicom_vs_seg_001").glob("*.dcm"))
    heights = {file: float(pydicom.dcmread(file, stop_before_pixels=True).ImagePositionPatient[2]) for file in files}
    middle = sorted(files, key=heights.__getitem__)[len(files) // 2 :][:SLICES]
    folder = tmp_path_factory.mktemp("series")
    for file in middle:
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture(scope="module")
def archive(series: Path, tmp_path_factory: pytest.TempPathFactory):
    """An archive with the series, and a client of ours for it."""
    label_python()
    pytest.importorskip("dicomweb_client.api", reason="dicomweb-client is absent: install it with pip")
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as orthanc:
        client = orthanc.client()
        client.store_instances([pydicom.dcmread(file) for file in series.iterdir()])
        yield orthanc, client


@pytest.fixture(scope="module")
def server(archive: Any, tmp_path_factory: pytest.TempPathFactory):
    orthanc, _ = archive
    login = {"MONAI_LABEL_DICOMWEB_USERNAME": orthanc.user, "MONAI_LABEL_DICOMWEB_PASSWORD": orthanc.password}
    folder = tmp_path_factory.mktemp("label")
    # The default hides what was stored for a minute.
    login["MONAI_LABEL_DICOMWEB_CACHE_EXPIRY"] = "1"
    with running_label_server(orthanc.dicomweb_url, folder, environment=login) as running:
        yield running


@pytest.fixture(scope="module")
def source(series: Path) -> pydicom.Dataset:
    return pydicom.dcmread(next(series.iterdir()), stop_before_pixels=True)


def test_the_series_is_offered_and_scored(server: LabelServer, source: pydicom.Dataset) -> None:
    server.wait_for_scores()
    assert server.client.info()["datastore"]["total"] == 1
    sample = server.client.next_sample("most_anomalous_first", {})
    assert sample["id"] == source.SeriesInstanceUID
    assert 0 < sample["volume_score"] < 1


def test_labels_lie_where_the_series_lies(server: LabelServer, series: Path, source: pydicom.Dataset) -> None:
    expected = screen_image(ServedBundle(find_bundle(MODEL)), series)
    file, params = server.client.infer(MODEL, source.SeriesInstanceUID, {**SLICER, "label_values": "fixed"})
    labels, affine = read_nrrd(file)
    np.testing.assert_array_equal(labels, expected.levels()[0])
    np.testing.assert_allclose(affine, expected.affine, atol=1e-4)
    assert labels.any()
    assert params["scan"]["modality"] == "MR"


def test_the_label_is_stored_as_segmentation(
    server: LabelServer, archive: Any, source: pydicom.Dataset, series: Path
) -> None:
    _, client = archive
    file, params = server.client.infer(MODEL, source.SeriesInstanceUID, SLICER)
    named = [{"name": name, "idx": value} for name, value in params["label_names"].items()]
    server.client.save_label(source.SeriesInstanceUID, file, "final", {"label_info": named})
    study = source.StudyInstanceUID
    found = [
        pydicom.Dataset.from_json(item) for item in client.search_for_series(study, search_filters={"Modality": "SEG"})
    ]
    assert len(found) == 1
    (stored,) = client.retrieve_series(study, found[0].SeriesInstanceUID)
    assert stored.SOPClassUID == pydicom.uid.SegmentationStorage
    assert stored.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert [segment.SegmentLabel for segment in stored.SegmentSequence] == list(params["label_names"])
    labels, affine = read_nrrd(file)
    assert segment_voxels(stored, affine, labels.shape) == {
        number: {tuple(map(int, voxel)) for voxel in np.argwhere(labels == number)}
        for number in params["label_names"].values()
    }
    assert server.client.next_sample("most_anomalous_first", {}) == {}


def segment_voxels(stored: pydicom.Dataset, affine: np.ndarray, shape: tuple[int, ...]) -> dict[int, set]:
    """Voxels of each segment on the grid of a label map, by the positions that the frames state."""
    shared = stored.SharedFunctionalGroupsSequence[0]
    spacing = [float(mm) for mm in shared.PixelMeasuresSequence[0].PixelSpacing]
    across, down = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    to_index = np.linalg.inv(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
    frames = np.atleast_3d(stored.pixel_array).reshape(-1, stored.Rows, stored.Columns)
    voxels: dict[int, set] = {}
    for frame, groups in zip(frames, stored.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, columns = np.nonzero(frame)
        points = origin + np.outer(columns * spacing[1], across) + np.outer(rows * spacing[0], down)
        indices = nibabel.affines.apply_affine(to_index, points)
        assert np.abs(indices - indices.round()).max(initial=0) < 0.01
        assert (indices.round() < shape).all()
        voxels.setdefault(number, set()).update(tuple(map(int, index)) for index in indices.round())
    return voxels


def test_a_client_may_ask_for_the_segmentation_itself(server: LabelServer, source: pydicom.Dataset) -> None:
    body = urlencode({"params": json.dumps({"label_info": [{"name": "low suspicion"}]})}).encode()
    request = f"/infer/{MODEL}?image={source.SeriesInstanceUID}&output=dicom_seg"
    received = pydicom.dcmread(pydicom.filebase.DicomBytesIO(server.fetch(request, body)))
    assert received.SOPClassUID == pydicom.uid.SegmentationStorage
    assert received.StudyInstanceUID == source.StudyInstanceUID


@pytest.mark.parametrize("image", ["1.2.3.4", "../../../etc", "."])
def test_a_series_that_is_not_there_is_named(server: LabelServer, image: str) -> None:
    status, answer = server.request(f"/infer/{MODEL}?image={image}", {}, "POST")
    assert status == 400
    assert image in answer["detail"]

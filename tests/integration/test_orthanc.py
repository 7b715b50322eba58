"""Written DICOM objects stored in a real server and fetched from it over DICOMweb."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from tests.integration.orthanc import client as client
from tests.writers.dicom.results import make_case, save, series

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stored(client, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    case = make_case(series(folder / "in", "oblique reversed"))
    paths = save(case, folder / "out")
    answer = client.store_instances([pydicom.dcmread(path) for path in [*case.files, *paths.values()]])
    assert len(answer.ReferencedSOPSequence) == len(case.files) + 3
    assert not answer.get("FailedSOPSequence")
    return case, {kind: pydicom.dcmread(path) for kind, path in paths.items()}


def test_results_join_the_study_of_the_scan(client, stored):
    case, written = stored
    source = pydicom.dcmread(case.files[0])
    found = [pydicom.Dataset.from_json(item) for item in client.search_for_series(source.StudyInstanceUID)]
    assert {item.Modality for item in found} == {"MR", "SEG", "OT", "SR"}
    assert {item.SeriesInstanceUID for item in found} == {
        source.SeriesInstanceUID,
        *(result.SeriesInstanceUID for result in written.values()),
    }


@pytest.mark.parametrize("kind", ["seg", "pm", "sr"])
def test_objects_come_back_as_they_were(client, stored, kind):
    _, written = stored
    result = written[kind]
    back = client.retrieve_instance(result.StudyInstanceUID, result.SeriesInstanceUID, result.SOPInstanceUID)
    assert back == result
    if kind != "sr":
        np.testing.assert_array_equal(back.pixel_array, result.pixel_array)


def test_scan_comes_back_with_the_positions_that_the_map_names(client, stored):
    case, written = stored
    source = pydicom.dcmread(case.files[0])
    images = client.retrieve_series(source.StudyInstanceUID, source.SeriesInstanceUID)
    positions = {image.SOPInstanceUID: image.ImagePositionPatient for image in images}
    assert len(positions) == len(case.files)
    for groups in written["pm"].PerFrameFunctionalGroupsSequence:
        (named,) = groups.DerivationImageSequence[0].SourceImageSequence
        assert groups.PlanePositionSequence[0].ImagePositionPatient == positions[named.ReferencedSOPInstanceUID]


def test_second_write_is_kept_beside_the_first(client, stored, tmp_path):
    case, written = stored
    again = pydicom.dcmread(save(case, tmp_path)["seg"])
    client.store_instances([again])
    found = client.search_for_instances(again.StudyInstanceUID, search_filters={"Modality": "SEG"})
    uids = {pydicom.Dataset.from_json(item).SOPInstanceUID for item in found}
    assert {again.SOPInstanceUID, written["seg"].SOPInstanceUID} <= uids

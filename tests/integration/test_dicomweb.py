"""Series of a real server as an input: listed, chosen, retrieved, read, and kept for another run."""

from __future__ import annotations

import logging

import numpy as np
import pydicom
import pytest
from monai.transforms import LoadImaged

from monai_zsad.data import DicomwebLogin, ScanReader, find_scans, find_studies
from monai_zsad.errors import InputError
from tests.data.samples import CT, SEG, write_series
from tests.integration.orthanc import running_orthanc

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("dicomweb_client", reason="dicomweb-client is absent: install it with pip")
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(autouse=True)
def login(server, monkeypatch):
    monkeypatch.setenv("MONAI_ZSAD_DICOMWEB_USER", server.user)
    monkeypatch.setenv("MONAI_ZSAD_DICOMWEB_PASSWORD", server.password)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MONAI_ZSAD_DICOMWEB_TOKEN", raising=False)


@pytest.fixture(scope="module")
def stored(server, tmp_path_factory):
    """One patient with an MR, a CT and a SEG in one study; another with an MR."""
    folder = tmp_path_factory.mktemp("series")
    study = pydicom.uid.generate_uid()
    common = {"StudyInstanceUID": study, "PatientID": "P7", "PatientName": "SECRET^ANNA"}
    written = {
        "mr": write_series(folder / "mr", number=3, SeriesDescription="Ax T2 FLAIR", BodyPartExamined="HEAD", **common),
        "ct": write_series(folder / "ct", number=8, sop_class=CT, modality="CT", **common),
        "seg": write_series(folder / "seg", number=9, slices=1, sop_class=SEG, modality="SEG", **common),
        "other": write_series(folder / "other", number=1, slices=4, PatientID="P8", PatientName="SECRET^BEN"),
    }
    client = server.client()
    for files in written.values():
        answer = client.store_instances([pydicom.dcmread(file) for file in files])
        assert not answer.get("FailedSOPSequence")
    return written


def uids(files) -> tuple[str, str]:
    ds = pydicom.dcmread(files[0], stop_before_pixels=True)
    return ds.StudyInstanceUID, ds.SeriesInstanceUID


def read(record):
    return LoadImaged(keys="image", reader=ScanReader(), ensure_channel_first=True)(record)["image"]


def assert_same_scan(record, files):
    theirs, ours = read(record), read({"image": [str(file) for file in files]})
    np.testing.assert_array_equal(theirs.numpy(), ours.numpy())
    np.testing.assert_array_equal(theirs.affine.numpy(), ours.affine.numpy())


def test_series_of_a_patient_are_listed_with_what_is_left_out(server, stored):
    found = {one.modality: one for one in find_studies(f"{server.dicomweb_url}/series?PatientID=P7")}
    assert set(found) == {"MR", "CT", "SEG"}
    flair = found["MR"]
    assert (flair.study, flair.uid) == uids(stored["mr"])
    assert (flair.number, flair.description, flair.body_part, flair.files) == (3, "Ax T2 FLAIR", "HEAD", 6)
    assert found["SEG"].skipped == "not an image (SEG)"
    chosen = find_studies(f"{server.dicomweb_url}/series?PatientID=P7", series="flair")
    assert {one.modality: one.skipped for one in chosen} == {"MR": "", "CT": "not chosen", "SEG": "not an image (SEG)"}


def test_series_come_back_as_they_were(server, stored, caplog):
    with caplog.at_level(logging.INFO):
        records = find_scans(f"{server.dicomweb_url}/series?PatientID=P7")
    assert {record["modality"] for record in records} == {"MR", "CT"}
    assert len({record["case"] for record in records}) == 2
    for record in records:
        assert_same_scan(record, stored[record["modality"].lower()])
    logged = caplog.text + str(records)
    assert "SECRET" not in logged
    assert "P7" not in logged
    assert server.password not in logged


@pytest.mark.parametrize(
    "address", ["/studies/{0}", "/studies/{0}/series?Modality=MR,CT", "/studies?PatientID=P7", "?PatientID=P7"]
)
def test_every_form_of_address(server, stored, address):
    study, _ = uids(stored["mr"])
    found = find_studies(server.dicomweb_url + address.format(study))
    usable = {one.uid for one in found if not one.skipped}
    # Some servers, Orthanc among them, do not take lists of values.
    assert usable <= {uids(stored["mr"])[1], uids(stored["ct"])[1]}
    assert usable or "," in address


def test_one_series_by_its_address(server, stored, tmp_path):
    study, series = uids(stored["ct"])
    for address in (f"/studies/{study}/series/{series}", f"/series/{series}"):
        (record,) = find_scans(server.dicomweb_url + address, download=tmp_path)
        assert record["case"] == series
        assert_same_scan(record, stored["ct"])


def test_a_series_is_chosen_before_it_is_retrieved(server, stored, tmp_path):
    address = f"{server.dicomweb_url}/series?limit=100"
    (record,) = find_scans(address, series="flair", download=tmp_path)
    assert_same_scan(record, stored["mr"])
    assert [folder.name for folder in tmp_path.glob("*/*")] == [uids(stored["mr"])[1]]
    with pytest.raises(InputError) as caught:
        find_scans(address, series="T1", download=tmp_path)
    assert caught.value.code == "no-such-series"
    assert "FLAIR" not in str(caught.value)
    assert len(find_studies(f"{server.dicomweb_url}/series?limit=2")) == 2


def test_what_is_complete_is_kept_and_what_is_not_is_retrieved_again(server, stored, tmp_path):
    address = f"{server.dicomweb_url}/series?PatientID=P8"
    (record,) = find_scans(address, download=tmp_path)
    times = {file: pydicom.dcmread(file) and file.stat().st_mtime_ns for file in tmp_path.rglob("*.dcm")}
    assert len(times) == 4
    find_scans(address, download=tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.dcm")} == times
    next(iter(times)).unlink()
    (again,) = find_scans(address, download=tmp_path)
    assert again == record
    assert_same_scan(again, stored["other"])
    assert not list(tmp_path.rglob(".partial*"))


def test_other_files_in_the_folder_are_no_part_of_the_result(server, stored, tmp_path):
    write_series(tmp_path / "mine")
    assert len(find_scans(f"{server.dicomweb_url}/series?PatientID=P8", download=tmp_path)) == 1


def test_wrong_login_is_refused_with_the_remedy(server, stored, caplog):
    with pytest.raises(InputError, match=r"status 401; set MONAI_ZSAD_DICOMWEB_USER") as caught:
        find_scans(f"{server.dicomweb_url}/series?PatientID=P7", login=DicomwebLogin("tester", "wrong"))
    assert "P7" not in str(caught.value)
    assert "wrong" not in caplog.text + str(caught.value)


def test_nothing_found_is_refused(server, stored):
    with pytest.raises(InputError, match="finds no series with images") as caught:
        find_scans(f"{server.dicomweb_url}/series?PatientID=nobody")
    assert caught.value.code == "no-scan"
    with pytest.raises(InputError) as caught:
        find_scans(f"{server.dicomweb_url}/series?Modality=SEG")
    assert caught.value.code == "no-scan"

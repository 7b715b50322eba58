"""Addresses of queries, and what a server may do wrong; a real server that does it right is in tests/integration."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import threading
import time
from collections import Counter
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest

from monai_zsad.data import DicomwebLogin, find_scans, find_studies, is_query, list_series, retrieve
from monai_zsad.data.discovery.dicomweb_query import parse_query
from monai_zsad.errors import InputError
from tests.data.samples import write_series

pytest.importorskip("dicomweb_client")


@pytest.fixture(autouse=True)
def own_settings(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("MONAI_ZSAD_DICOMWEB_WAIT", "0")
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MONAI_ZSAD_DICOMWEB_{name}", raising=False)


@pytest.mark.parametrize(
    ("address", "service", "by_study", "study", "filters"),
    [
        ("http://h:8042/dicom-web/series?Modality=MR", "http://h:8042/dicom-web", False, "", {"Modality": "MR"}),
        ("dicomweb://h/dicom-web?PatientID=7", "https://h/dicom-web", False, "", {"PatientID": "7"}),
        ("https://h/d/studies?StudyDate=20260101-", "https://h/d", True, "", {"StudyDate": "20260101-"}),
        ("https://h/d/studies/1.2", "https://h/d", False, "1.2", {}),
        ("https://h/d/studies/1.2/series/", "https://h/d", False, "1.2", {}),
        ("https://h/d/studies/1.2/series/3.4", "https://h/d", False, "1.2", {"SeriesInstanceUID": "3.4"}),
        ("https://h/d/series/3.4", "https://h/d", False, "", {"SeriesInstanceUID": "3.4"}),
        ("https://h/series?00080060=MR&limit=5", "https://h", False, "", {"00080060": "MR"}),
        ("https://h/a/b%20c/series?PatientName=M%C3%BCller", "https://h/a/b%20c", False, "", {"PatientName": "Müller"}),
    ],
)
def test_addresses(address, service, by_study, study, filters):
    query = parse_query(address)
    assert (query.service, query.by_study, query.study, dict(query.filters)) == (service, by_study, study, filters)
    assert is_query(address)


@pytest.mark.parametrize(
    ("address", "remedy"),
    [
        ("https://h/dicom-web", "add a filter"),
        ("https://h/dicom-web/studies", "add a filter"),
        ("https:///studies/1.2", "https://host"),
        ("https://h:x/studies/1.2", "https://host"),
        ("https://anna:secret@h/studies/1.2", "DICOMWEB_USER"),
        ("https://h/studies/..", "https://host"),
        ("https://h/studies/1.2/series/3.4/instances/5.6", "https://host"),
        ("https://h/series?Modalty=MR", "'Modalty'.*https://host"),
        ("https://h/series?limit=all", "'limit'.*https://host"),
    ],
)
def test_addresses_that_cannot_be_used(address, remedy):
    for function in (find_scans, find_studies, list_series, retrieve):
        with pytest.raises(InputError, match=remedy) as caught:
            function(address)
        assert caught.value.code == "bad-query"
        assert "secret" not in str(caught.value)


def test_paths_are_no_queries(tmp_path):
    assert not is_query(tmp_path)
    assert not is_query("http")
    assert not is_query("ftp://host/series")


class Server(http.server.BaseHTTPRequestHandler):
    """A DICOMweb server of one series, which does what it is told."""

    files: list
    fault = ""
    asked: list

    def do_GET(self):
        self.asked.append((self.path, dict(self.headers)))
        parts = urlsplit(self.path)
        ds = pydicom.dcmread(self.files[0])
        if self.fault == "status" or "9.9" in parts.path:
            self.send_error(404)
        elif self.fault == "text":
            self.answer("application/dicom+json", b"no json")
        elif self.fault == "away" and self.headers["Host"].startswith("localhost"):
            self.send_error(404)
        elif self.fault == "away":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.connection.getsockname()[1]}{self.path}")
            self.end_headers()
        elif parts.path.endswith("/instances"):
            self.json(parts, [{"00080018": self.uid(pydicom.dcmread(file).SOPInstanceUID)} for file in self.files])
        elif parts.path.endswith("/series"):
            series = "../../evil" if self.fault == "evil" else ds.SeriesInstanceUID
            item = {"0020000D": self.uid(ds.StudyInstanceUID), "0020000E": self.uid(series)}
            second = [{**item, "0020000E": self.uid("9.9")}] if self.fault == "second" else []
            self.json(parts, [{**item, "00080060": {"vr": "CS", "Value": ["MR"]}}, *second])
        else:
            self.instances()

    def uid(self, value):
        return {"vr": "UI", "Value": [value]}

    def json(self, parts, items):
        # A server that ignores the offset gives the same again and again.
        start = 0 if self.fault == "offset" else int(parse_qs(parts.query).get("offset", ["0"])[0])
        self.answer("application/dicom+json", json.dumps(items[start:][:2]).encode())

    def instances(self):
        files = self.files[:-1] if self.fault == "incomplete" else self.files
        body = io.BytesIO()
        for number, file in enumerate(files):
            ds = pydicom.dcmread(file)
            if self.fault == "foreign" and number == 2:
                ds.SOPInstanceUID = "1.2.3"
            content = io.BytesIO()
            ds.save_as(content, enforce_file_format=True)
            body.write(b"\r\n--B\r\nContent-Type: application/dicom\r\n\r\n" + content.getvalue())
        body.write(b"\r\n--B--")
        whole = body.getvalue()
        before = sum(self.path == path for path, _ in self.asked) - 1
        cut = self.fault == "cut" or (self.fault == "cut twice" and before < 2)
        self.answer('multipart/related; type="application/dicom"; boundary=B', whole, cut)

    def answer(self, kind, body, cut=False):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving(folder, fault=""):
    handler = type("Handler", (Server,), {"files": write_series(folder, slices=5), "fault": fault, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/dicom-web", handler
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("fault", ["", "offset"])
def test_results_in_parts_are_put_together(tmp_path, fault):
    with serving(tmp_path / "s", fault) as (address, handler):
        if fault:
            assert len(list_series(f"{address}/series?PatientID=SECRET")) == 1
            return
        (record,) = find_scans(f"{address}/series?PatientID=SECRET", download=tmp_path / "out")
    assert len(record["image"]) == 5
    assert all(headers.get("Authorization") is None for _, headers in handler.asked)
    ours = {pydicom.dcmread(file).SOPInstanceUID: file for file in handler.files}
    for file in record["image"]:
        ds = pydicom.dcmread(file)
        assert ds == pydicom.dcmread(ours[ds.SOPInstanceUID])
        assert ds.preamble == bytes(128)


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        ("status", "status 404"),
        ("text", "cannot be used"),
        ("evil", "cannot be used"),
        ("incomplete", "4 of the 5 instances"),
        ("foreign", "not asked for"),
        ("cut", "cannot be used"),
    ],
)
def test_a_faulty_server_leaves_nothing(tmp_path, fault, finding, caplog):
    with (
        serving(tmp_path / "s", fault) as (address, _),
        pytest.raises(InputError, match=finding) as caught,
    ):
        find_scans(f"{address}/series?PatientID=SECRET", download=tmp_path / "out")
    assert caught.value.code == "server-failed"
    assert "SECRET" not in str(caught.value) + caplog.text
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
    assert not (tmp_path / "evil").exists()
    assert not list(tmp_path.rglob(".partial*"))


def test_an_answer_that_breaks_off_is_asked_for_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MONAI_ZSAD_DICOMWEB_WAIT", "5")
    with serving(tmp_path / "s", "cut twice") as (address, handler):
        (record,) = find_scans(f"{address}/series?PatientID=SECRET", download=tmp_path / "out")
    assert len(record["image"]) == 5
    assert "does not answer" in caplog.text
    assert "answers again" in caplog.text
    assert "SECRET" not in caplog.text
    assert not list(tmp_path.rglob(".partial*"))
    assert max(Counter(path for path, _ in handler.asked).values()) == 3


def test_a_server_that_stays_away_is_waited_for_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MONAI_ZSAD_DICOMWEB_WAIT", "1")
    start = time.monotonic()
    with (
        serving(tmp_path / "s", "cut") as (address, handler),
        pytest.raises(InputError, match=r"has not answered for 1 s .*; try again"),
    ):
        find_scans(f"{address}/series?PatientID=SECRET", download=tmp_path / "out")
    assert 1 <= time.monotonic() - start < 10
    assert len(handler.asked) > 4


def test_a_series_that_cannot_be_retrieved_fails_alone(tmp_path, caplog):
    with serving(tmp_path / "s", "second") as (address, _):
        found = find_scans(f"{address}/series?PatientID=SECRET", download=tmp_path / "out")
    (good,), (failed,) = found, found.left_out
    assert len(good["image"]) == 5
    assert (failed.path.name, failed.code, failed.is_refused) == ("9.9", "server-failed", True)
    assert "status 404" in failed.reason
    assert "SECRET" not in failed.reason + failed.case
    assert "series 2 of 2" in caplog.text
    assert "status 404" in caplog.text


def test_no_server():
    with pytest.raises(InputError, match="cannot be used") as caught:
        find_scans("http://127.0.0.1:9/dicom-web/studies/1.2")
    assert caught.value.code == "server-failed"


@pytest.mark.parametrize(
    ("login", "sent"),
    [(DicomwebLogin(token="abc"), "Bearer abc"), (DicomwebLogin("anna", "pw"), "Basic YW5uYTpwdw==")],
)
def test_the_login_is_sent_to_its_server_alone(tmp_path, login, sent, monkeypatch, caplog):
    with serving(tmp_path / "s") as (address, handler):
        list_series(f"{address}/series?Modality=MR", login=login)
        assert {headers["Authorization"] for _, headers in handler.asked} == {sent}
    assert "abc" not in caplog.text + repr(login)
    with serving(tmp_path / "t", "away") as (address, handler):
        with pytest.raises(InputError):
            list_series(f"{address}/series?Modality=MR", login=login)
        elsewhere = [headers for _, headers in handler.asked if headers["Host"].startswith("localhost")]
        assert all("Authorization" not in headers for headers in elsewhere)


def test_login_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MONAI_ZSAD_DICOMWEB_TOKEN", "xyz")
    with serving(tmp_path / "s") as (address, handler):
        list_series(f"{address}/studies/1.2")
        assert {headers["Authorization"] for _, headers in handler.asked} == {"Bearer xyz"}
    assert "xyz" not in repr(DicomwebLogin.from_environment())

"""Results sent to a server that fails in many ways; tests/integration/test_pacs.py has a real one."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
from collections import Counter
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest
from typer.testing import CliRunner

from monai_zsad.cli.main import app
from monai_zsad.data import store_results
from monai_zsad.errors import ConfigurationError, InputError
from tests.data.samples import SEG, write_series

pytest.importorskip("dicomweb_client")


@pytest.fixture(autouse=True)
def own_settings(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MONAI_ZSAD_DICOMWEB_WAIT", "5")
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MONAI_ZSAD_DICOMWEB_{name}", raising=False)


@pytest.fixture
def results(tmp_path):
    """Four complete cases with a segmentation each, one of them with a report, and a case that is not complete."""
    for number, case in enumerate(("anna", "ben", "cleo", "dora", "part")):
        kinds = ("seg.dcm", "sr.dcm") if case == "dora" else ("seg.dcm",)
        files = {}
        for kind in kinds:
            (file,) = write_series(
                tmp_path / "made" / case / kind, slices=1, number=number, sop_class=SEG, modality="SEG",
                PatientName="SECRET^NAME", PatientID="SECRET7",
            )  # fmt: skip
            target = tmp_path / "out" / case / kind
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
            files[kind] = {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        if case != "part":
            manifest = {"schema": "monai-zsad/manifest", "files": files}
            (target.parent / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path / "out"


class Server(http.server.BaseHTTPRequestHandler):
    """Keeps what is sent to it. ``faults`` are what it does wrong to the next objects, one each."""

    kept: dict
    posts: Counter
    faults: list
    status = 200

    def do_GET(self):
        uid = parse_qs(urlsplit(self.path).query)["SOPInstanceUID"][0]
        items = [{"00080018": {"vr": "UI", "Value": [uid]}}] if uid in self.kept else []
        self.answer(self.status, items)

    def do_POST(self):
        size = self.headers.get("Content-Length")
        body = self.rfile.read(int(size)) if size else b"".join(iter(self.chunk, b""))
        start = body.index(b"\r\n\r\n") + 4
        ds = pydicom.dcmread(BytesIO(body[start : body.rindex(b"\r\n--")]))
        uid = ds.SOPInstanceUID
        self.posts[uid] += 1
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "lost":
            # It has stored the object, but the answer does not arrive.
            self.kept[uid] = ds
            self.connection.close()
        elif fault == "busy":
            self.answer(503, [])
        elif fault in ("rejects", "conflict"):
            failed = {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [0xA700]}}
            self.answer(409 if fault == "conflict" else 202, {"00081198": {"vr": "SQ", "Value": [failed]}})
        elif isinstance(fault, int):
            self.answer(fault, [])
        else:
            self.kept[uid] = ds
            self.answer(200, {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}}]}})

    def chunk(self):
        size = int(self.rfile.readline(), 16)
        data = self.rfile.read(size)
        self.rfile.readline()
        return data

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving(*faults, **more):
    handler = type("Handler", (Server,), {"kept": {}, "posts": Counter(), "faults": list(faults), **more})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/dicom-web", handler
        finally:
            server.shutdown()
            thread.join()


def states(results, address, **options):
    return {one.file: one.state for one in store_results(results, address, **options)}


FILES = ["anna/seg.dcm", "ben/seg.dcm", "cleo/seg.dcm", "dora/seg.dcm", "dora/sr.dcm"]


def test_complete_cases_are_sent_once(results):
    with serving() as (address, server):
        assert states(results, address, dry_run=True) == dict.fromkeys(FILES, "absent")
        assert not server.posts
        assert states(results, address) == dict.fromkeys(FILES, "stored")
        assert states(results, address) == dict.fromkeys(FILES, "present")
        assert set(server.posts.values()) == {1}
    for file in FILES:
        ours = pydicom.dcmread(results / file)
        assert server.kept.pop(ours.SOPInstanceUID) == ours
    assert not server.kept


@pytest.mark.parametrize("size", [100, 10**6])
def test_a_lost_answer_or_a_busy_server_is_no_failure(results, size, monkeypatch, caplog):
    # A message that is larger is sent in chunks.
    fixed = property(lambda client: size, lambda client, value: None)
    monkeypatch.setattr("dicomweb_client.web.DICOMwebClient._chunk_size", fixed, raising=False)
    with serving("lost", "busy", "", "busy", "lost") as (address, server):
        assert states(results, address) == dict.fromkeys(FILES, "stored")
        # An object whose answer was lost is not sent again.
        assert [server.posts[pydicom.dcmread(results / file).SOPInstanceUID] for file in FILES] == [1, 2, 2, 1, 1]
    assert caplog.text.count("does not answer") == caplog.text.count("answers again") == 3
    for file in FILES:
        ours = pydicom.dcmread(results / file)
        assert server.kept[ours.SOPInstanceUID] == ours


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("rejects", "out of resources (code A700)"),
        ("conflict", "out of resources (code A700)"),
        (400, "status 400"),
        (500, "status 500"),
    ],
)
def test_a_rejected_object_does_not_stop_the_others(results, fault, reason):
    with serving("", fault) as (address, _):
        first, second, *others = store_results(results, address)
        assert (second.file, second.state) == ("ben/seg.dcm", "failed")
        assert reason in second.reason
        assert {one.state for one in [first, *others]} == {"stored"}
        assert states(results, address) == dict.fromkeys(FILES, "present") | {"ben/seg.dcm": "stored"}


def test_a_damaged_file_is_not_sent(results):
    (results / "ben" / "seg.dcm").write_bytes((results / "ben" / "seg.dcm").read_bytes()[:-4])
    (results / "cleo" / "seg.dcm").unlink()
    with serving() as (address, server):
        found = {one.file: one for one in store_results(results, address)}
        assert sum(server.posts.values()) == 3
    assert "not as it was written" in found["ben/seg.dcm"].reason
    assert "cannot be read" in found["cleo/seg.dcm"].reason


@pytest.mark.parametrize("status", [401, 404, 501])
def test_a_server_that_takes_nothing_ends_it(results, status):
    with serving("", status) as (address, _), pytest.raises(InputError, match=f"status {status}"):
        states(results, address)


def test_a_server_that_stays_away_ends_it(results, monkeypatch):
    monkeypatch.setenv("MONAI_ZSAD_DICOMWEB_WAIT", "1")
    with serving("", "busy", *["busy"] * 20) as (address, _):
        objects = store_results(results, address)
        assert next(objects).state == "stored"
        with pytest.raises(InputError, match=r"not answered for 1 s \(status 503\); try again") as caught:
            next(objects)
    assert caught.value.code == "server-failed"


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_the_time_to_wait_is_a_number(results, text, monkeypatch):
    monkeypatch.setenv("MONAI_ZSAD_DICOMWEB_WAIT", text)
    with pytest.raises(ConfigurationError, match="give a number of seconds"):
        states(results, "http://127.0.0.1:9/dicom-web")


def test_what_cannot_be_used(results, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, finding in ((tmp_path / "empty", "0 complete cases"), (tmp_path / "none", "is not a folder")):
        with pytest.raises(InputError, match=finding):
            states(folder, "https://h/dicom-web")
    for address, finding in (
        ("https://h/dicom-web/studies/1.2", "service alone"),
        ("https://h/dicom-web/series?Modality=MR", "service alone"),
        ("https://anna:secret@h/dicom-web", "DICOMWEB_USER"),
        ("pacs", "has no host"),
    ):
        with pytest.raises(InputError, match=finding) as caught:
            states(results, address)
        assert "secret" not in str(caught.value)


def test_the_command(results):
    with serving("", "rejects") as (address, _):
        done = [CliRunner().invoke(app, ["store", str(results), address, *more]) for more in (["--dry-run"], [], [])]
    assert [one.exit_code for one in done] == [0, 1, 0]
    tried, sent, again = (one.stdout.splitlines() for one in done)
    assert tried == [*(f"{file}  not there yet" for file in FILES), "5 not there yet"]
    assert sent[1] == "ben/seg.dcm  failed: the server rejects it: out of resources (code A700)"
    assert sent[-1] == "4 stored, 1 failed"
    assert again == ["ben/seg.dcm  stored", "1 stored, 4 already there"]
    assert not [one for one in done if "SECRET" in one.output]

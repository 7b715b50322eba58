"""A real Orthanc with its DICOMweb plugin for the time of a test."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STARTS_WITHIN_S = 90.0


@dataclass(frozen=True)
class Server:
    """Where the server listens, and as whom to log in."""

    url: str
    user: str
    password: str

    @property
    def dicomweb_url(self) -> str:
        return f"{self.url}/dicom-web"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_orthanc(folder: Path) -> Iterator[Server]:
    """Start a server that keeps its data below ``folder``, and end it whatever happens.

    The test skips where Orthanc or its plugin is not installed.
    """
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None or not PLUGIN.is_file():
        pytest.skip("Orthanc is absent: install the Debian packages orthanc and orthanc-dicomweb")
    server = Server(f"http://127.0.0.1:{free_port()}", "tester", secrets.token_hex(8))
    configuration = {
        "Name": "monai-zsad tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(PLUGIN)],
        "HttpPort": int(server.url.rpartition(":")[2]),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {server.user: server.password},
        "DicomServerEnabled": False,
        "OverwriteInstances": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(file)], cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(server, process, folder / "orthanc.log")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A DICOMweb client of a server that is empty at first."""
    api = pytest.importorskip("dicomweb_client.api", reason="dicomweb-client is absent: install it with pip")
    from dicomweb_client.session_utils import create_session_from_user_pass

    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        session = create_session_from_user_pass(server.user, server.password)
        session.trust_env = False
        yield api.DICOMwebClient(server.dicomweb_url, session=session)


def _wait(server: Server, process: subprocess.Popen, log: Path) -> None:
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, server.url, server.user, server.password)
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(passwords)
    opener = urllib.request.build_opener(*handlers)
    end = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"Orthanc ended with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
        try:
            with opener.open(f"{server.url}/system", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"Orthanc did not answer within {STARTS_WITHIN_S:.0f} s:\n{log.read_text(errors='replace')[-2000:]}")

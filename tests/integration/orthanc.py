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
from typing import Any

import pytest

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
STARTS_WITHIN_S = 90.0


@dataclass
class Server:
    """Where the server listens, as whom to log in, and its process, which can be killed and started again."""

    url: str
    user: str
    password: str
    command: list[str]
    folder: Path
    process: subprocess.Popen | None = None

    @property
    def dicomweb_url(self) -> str:
        return f"{self.url}/dicom-web"

    def start(self) -> None:
        log = self.folder / "orthanc.log"
        with log.open("ab") as stream:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdout=stream, stderr=subprocess.STDOUT)
        _wait(self, self.process, log)

    def kill(self) -> None:
        """End it without a warning, as a power failure does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def client(self) -> Any:
        from dicomweb_client.api import DICOMwebClient
        from dicomweb_client.session_utils import create_session_from_user_pass

        session = create_session_from_user_pass(self.user, self.password)
        session.trust_env = False
        return DICOMwebClient(self.dicomweb_url, session=session)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def orthanc_program() -> str:
    """Path of Orthanc; the test skips without it."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None or not PLUGIN.is_file():
        pytest.skip("Orthanc is absent: install the Debian packages orthanc and orthanc-dicomweb")
    return program


@contextlib.contextmanager
def running_orthanc(folder: Path) -> Iterator[Server]:
    """Start a server that keeps its data below ``folder``, and end it whatever happens.

    The test skips where Orthanc or its plugin is not installed.
    """
    program = orthanc_program()
    file = folder / "orthanc.json"
    url = f"http://127.0.0.1:{free_port()}"
    server = Server(url, "tester", secrets.token_hex(8), [program, str(file)], folder)
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
    file.write_text(json.dumps(configuration))
    try:
        server.start()
        yield server
    finally:
        if (process := server.process) is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A DICOMweb client of a server that is empty at first."""
    pytest.importorskip("dicomweb_client.api", reason="dicomweb-client is absent: install it with pip")
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
        yield server.client()


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

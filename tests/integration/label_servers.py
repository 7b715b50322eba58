"""A real MONAI Label server for the time of a test, and MONAI Label's own client."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.integration.orthanc import free_port

STARTS_WITHIN_S = 300.0
# The server's address is this machine's; a proxy of the environment has no part in it.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def label_python() -> str:
    """The interpreter of the environment with MONAI Label; the test skips where there is none."""
    given = os.environ.get("MONAI_ZSAD_LABEL_PYTHON")
    python = Path(given) if given else ROOT / ".venv-label" / "bin" / "python"
    if not python.is_file():
        pytest.skip("the environment with MONAI Label is absent: `make label-env`, or set MONAI_ZSAD_LABEL_PYTHON")
    return str(python)


@dataclass(frozen=True)
class LabelServer:
    """A server that runs, with the client that belongs to it."""

    url: str
    client: Any
    log: Path

    def request(self, path: str, body: Any = None, method: str | None = None) -> tuple[int, Any]:
        """Status and JSON content of an answer; the body is sent as a form if it is bytes, else as JSON."""
        form = isinstance(body, bytes)
        data = body if form or body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded" if form else "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with _OPENER.open(request, timeout=300) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def fetch(self, path: str, body: bytes) -> bytes:
        """Content of the answer to a form."""
        with _OPENER.open(f"{self.url}{path}", body, timeout=300) as answer:
            return bytes(answer.read())

    def wait_for_scores(self, within_s: float = 300.0) -> None:
        """Return when the background scoring has ended."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            status, task = self.request("/scoring/")
            if status == 200 and task["status"] in ("DONE", "ERROR"):
                assert task["status"] == "DONE", task
                return
            time.sleep(1)
        pytest.fail(f"no scores within {within_s:.0f} s:\n{self.log.read_text(errors='replace')[-3000:]}")


@contextlib.contextmanager
def running_label_server(
    studies: str | Path, folder: Path, options: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[LabelServer]:
    """Start ``label-server`` as a user does, and end it whatever happens."""
    python = label_python()
    port = free_port()
    command = [python, "-m", "monai_zsad", "label-server", "--studies", str(studies)]
    command += ["--port", str(port), "--work", str(folder / "work"), *options]
    log = folder / "label-server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **(environment or {})}, stdout=stream, stderr=subprocess.STDOUT
        )
        try:
            server = LabelServer(f"http://127.0.0.1:{port}", _client(python, port, folder), log)
            _wait(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(30)


def _client(python: str, port: int, folder: Path) -> Any:
    """``monailabel.client.MONAILabelClient``, whose one file needs nothing of its environment."""
    code = "import importlib.util; print(importlib.util.find_spec('monailabel').submodule_search_locations[0])"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    spec = importlib.util.spec_from_file_location("monailabel_client", Path(found) / "client" / "client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (folder / "received").mkdir(exist_ok=True)
    return module.MONAILabelClient(f"http://127.0.0.1:{port}", tmpdir=str(folder / "received"))


def _wait(server: LabelServer, process: subprocess.Popen) -> None:
    end = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(
                f"the server ended with {process.returncode}:\n{server.log.read_text(errors='replace')[-3000:]}"
            )
        with contextlib.suppress(urllib.error.URLError, OSError):
            server.request("/info/")
            return
        time.sleep(0.5)
    pytest.fail(f"the server did not answer:\n{server.log.read_text(errors='replace')[-3000:]}")

"""The server of the page without a browser: limits, headers, addresses, and errors at its start."""

from __future__ import annotations

import builtins
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from monai_zsad.cli.main import app as program
from monai_zsad.errors import ConfigurationError
from monai_zsad.integrations.app import server as module
from monai_zsad.integrations.app.choices import bundle_choices
from monai_zsad.integrations.app.jobs import Jobs
from monai_zsad.integrations.app.server import make_server, serve
from monai_zsad.integrations.app.storage import Storage

starlette = pytest.importorskip("starlette.testclient", reason="gradio is not installed")


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("app")))
        patch.setenv("GRADIO_TEMP_DIR", "")
        made = Storage(max_upload_mb=1)
        yield made
        made.close()


@pytest.fixture(scope="module")
def client(storage: Storage) -> Any:
    application = make_server(Jobs(storage), bundle_choices(["tiny_screening"]), "127.0.0.1")
    return starlette.TestClient(application, base_url="http://127.0.0.1:7860")


@pytest.mark.slow
def test_the_page_may_load_nothing_from_the_network(client: httpx.Client):
    page = client.get("/")
    assert page.status_code == 200
    sources = page.headers["content-security-policy"].partition("default-src ")[2].partition(";")[0].split()
    assert set(sources) == {"'self'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}
    assert page.headers["cache-control"] == "no-store"
    config = client.get("/config").json()
    assert not config["analytics_enabled"]
    assert not config["run_history"]
    assert "fonts.googleapis" not in client.get("/theme.css").text


@pytest.mark.slow
def test_other_hosts_are_refused(client: httpx.Client):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/gradio_api/proxy=http://127.0.0.1:1/x", "/gradio_api/file=http://127.0.0.1:1/x"])
def test_the_server_asks_no_other_server(client: httpx.Client, path: str):
    assert client.get(path).status_code == 404


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/etc/passwd", __file__])
def test_files_of_this_machine_are_not_served(client: httpx.Client, path: str):
    assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)
    assert client.get(f"/results/x/..%2f..%2f{path}/y").status_code == 404


@pytest.mark.slow
def test_a_large_upload_is_refused_with_the_remedy(client: httpx.Client, storage: Storage):
    answer = client.post("/gradio_api/upload", files={"files": ("anna.nii", bytes(3_000_000))})
    assert answer.status_code == 413
    assert "--max-upload 4" in answer.text
    without_length = client.post("/gradio_api/upload", content=iter([b"x"]))
    assert without_length.status_code == 413
    assert not [path for path in storage.root.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_small_upload_is_taken_into_the_private_folder(client: httpx.Client, storage: Storage):
    answer = client.post("/gradio_api/upload", files={"files": ("anna.nii", b"scan")})
    assert storage.uploads in Path(answer.json()[0]).parents


@pytest.mark.slow
def test_results_are_served_to_who_knows_their_address(client: httpx.Client, storage: Storage):
    session = storage.session("page")
    folder = storage.new_results(session) / "anna"
    folder.mkdir()
    (folder / "report.html").write_text("<p>report")
    report = client.get(f"/results/{session.token}/anna/report.html")
    assert report.text == "<p>report"
    assert report.headers["content-security-policy"].startswith("sandbox ")
    assert "allow-same-origin" not in report.headers["content-security-policy"]
    assert report.headers["cache-control"] == "no-store"
    assert client.get("/results/guess/anna/report.html").status_code == 404


def test_a_port_that_is_used_is_said():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"--port {port}"):
            serve(port=port, bundles=["tiny_screening"])


def test_a_host_that_is_not_of_this_machine_is_said():
    with pytest.raises(ConfigurationError, match="--host"):
        serve(host="192.0.2.1", port=0, bundles=["tiny_screening"])


def test_without_gradio_the_command_that_installs_it_is_said(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "gradio":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigurationError, match=r"pip install 'monai-zsad\[app\]'"):
        serve(port=0)


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_listening_to_the_network_is_warned_of(monkeypatch: pytest.MonkeyPatch, host: str, warned: bool):
    calls: list[dict[str, Any]] = []

    def serving(host: str, port: int, **options: Any) -> None:
        calls.append({"host": host, "port": port, **options})

    monkeypatch.setattr(module, "serve", serving)
    done = CliRunner().invoke(program, ["app", "--host", host, "--max-upload", "20", "-b", "tiny_screening"])
    assert done.exit_code == 0, done.output
    assert ("warning" in done.stderr) == warned
    assert calls[0]["host"] == host
    assert calls[0]["max_upload_mb"] == 20
    assert calls[0]["bundles"] == ["tiny_screening"]
    assert not calls[0]["open_browser"]


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda sent: sent.name)
def test_nothing_is_left_behind_after_a_signal(tmp_path: Path, sent: signal.Signals):
    command = [sys.executable, "-m", "monai_zsad", "app", "--port", "0", "-b", "tiny_screening"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[1]
            assert list(tmp_path.glob("monai-zsad-app-*"))
            upload(address)
            assert list(tmp_path.rglob("anna.nii"))
            process.send_signal(sent)
            process.wait(120)
        finally:
            process.kill()
    assert not list(tmp_path.glob("monai-zsad-*"))


# Warnings of an answer, while modules are imported in the thread that warms up.
_WARNING = """
import threading, warnings
import uvicorn
from monai_zsad.integrations.app.server import serve

def answer(server, sockets):
    others = [one for one in threading.enumerate() if one is not threading.current_thread() and one.daemon]
    print(len(others))
    while any(one.is_alive() for one in others):
        with warnings.catch_warnings():
            warnings.warn("of an answer", UserWarning, stacklevel=1)

uvicorn.Server.run = answer
serve(port=0, bundles=["tiny_screening"])
"""


@pytest.mark.slow
def test_warnings_of_libraries_are_not_printed():
    done = subprocess.run([sys.executable, "-c", _WARNING], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    assert done.stderr == ""


def upload(address: str) -> None:
    """Send a file as soon as the server listens."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=8), timeout=120) as browser:
        assert browser.post(f"{address}/gradio_api/upload", files={"files": ("anna.nii", b"scan")}).json()

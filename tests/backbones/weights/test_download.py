"""Weights files: where they lie, downloading with verified hashes, and what a machine without network is told."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from monai_zsad.backbones.weights import (
    WeightsEntry,
    cached_path,
    download,
    fetch,
    get_entry,
    sha256_of,
    weights_folder,
)
from monai_zsad.errors import WeightsError


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's files, nor the network beyond this machine."""
    monkeypatch.setenv("MONAI_ZSAD_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    for variable in ("MONAI_ZSAD_OFFLINE", "HF_HUB_OFFLINE", "TORCH_HOME", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)


# ---- where files lie -----------------------------------------------------------------------------------------------


def test_the_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert weights_folder() == tmp_path / "weights"
    monkeypatch.delenv("MONAI_ZSAD_WEIGHTS")
    assert weights_folder() == tmp_path / "cache" / "monai_zsad" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights_folder() == tmp_path / "home" / ".cache" / "monai_zsad" / "weights"


def test_a_changed_file_is_hashed_again(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert sha256_of(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"other")
    assert sha256_of(path) == hashlib.sha256(b"other").hexdigest()


# ---- downloading ---------------------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[str] = []  # noqa: RUF012  # one list for all requests of a test, emptied by the fixture

    def do_HEAD(self) -> None:
        self.answer(head=True)

    def do_GET(self) -> None:
        self.answer(head=False)

    def answer(self, head: bool) -> None:
        Handler.seen.append(f"{self.command} {self.path}")
        kind = self.path.strip("/").split("/")[0]
        if kind == "hub" and not self.path.endswith(".bin"):
            self.reply(404, b"", head)
        elif kind == "hub":
            # As Hugging Face does: a redirect to another host that states the hash of what lies there.
            stated = DIGEST if "good" in self.path else "0" * 64
            location = f"http://localhost:{self.headers['Host'].split(':')[1]}/good/file"
            self.reply(302, b"", head, {"Location": location, "X-Linked-Etag": f'"{stated}"'})
        elif kind == "good":
            self.reply(200, CONTENT, head)
        elif kind == "cut":
            self.reply(200, CONTENT, head, cut=True)
        else:
            self.reply({"gone": 404, "broken": 500}[kind], b"no", head)

    def reply(
        self, code: int, body: bytes, head: bool, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        self.send_response(code)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if not head:
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of these tests."""


@pytest.fixture
def server() -> Iterator[str]:
    Handler.seen = []
    httpd = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def entry_at(url: str | None, sha256: str = DIGEST, hf_repo: str | None = None) -> WeightsEntry:
    file = "open_clip_model.safetensors" if hf_repo else None
    return replace(
        get_entry("ViT-B-16:openai"), url=url, sha256=sha256, filename="w.pt", hf_repo=hf_repo, hf_filename=file
    )


def test_download_verify_and_cache(server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    entry = entry_at(f"{server}/good/w.pt", DIGEST[:8])
    assert cached_path(entry) is None
    path = fetch(entry)
    assert path == tmp_path / "weights" / "w.pt"
    assert path.read_bytes() == CONTENT
    shown = capsys.readouterr().err
    assert "w.pt" in shown
    assert "1.22M" in shown, "the progress bar"
    assert [item.name for item in path.parent.iterdir()] == ["w.pt"]
    count = len(Handler.seen)
    assert fetch(entry, download=False) == path == cached_path(entry)
    assert len(Handler.seen) == count, "a cached file needs no network"
    assert fetch(entry, folder=tmp_path / "other", progress=False) == tmp_path / "other" / "w.pt"
    assert capsys.readouterr().err == ""


def test_a_download_with_the_wrong_hash_is_not_kept(server: str, tmp_path: Path):
    with pytest.raises(WeightsError, match="expected " + "1" * 64) as caught:
        fetch(entry_at(f"{server}/good/w.pt", "1" * 64), progress=False)
    assert DIGEST in str(caught.value)
    assert list((tmp_path / "weights").iterdir()) == []


def test_an_interrupted_download_leaves_nothing(server: str, tmp_path: Path):
    with pytest.raises(WeightsError, match=r"ended after 640000 of 1280000 bytes|broke off"):
        fetch(entry_at(f"{server}/cut/w.pt"), progress=False)
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_file_with_the_wrong_hash_is_named_and_kept(server: str, tmp_path: Path):
    entry = entry_at(f"{server}/good/w.pt")
    path = tmp_path / "weights" / "w.pt"
    path.parent.mkdir()
    path.write_bytes(b"old")
    with pytest.raises(WeightsError, match=r"w\.pt is damaged or another file.*Remove it") as caught:
        fetch(entry)
    assert DIGEST in str(caught.value)
    assert hashlib.sha256(b"old").hexdigest() in str(caught.value)
    assert path.read_bytes() == b"old"
    assert Handler.seen == []


def test_a_folder_that_cannot_be_written(server: str, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match=r"cannot write w\.pt into .*MONAI_ZSAD_WEIGHTS"):
        fetch(entry_at(f"{server}/good/w.pt"), folder=tmp_path / "file", progress=False)


@pytest.mark.parametrize("kind", ["gone", "broken"])
def test_servers_that_refuse(server: str, kind: str):
    code = {"gone": 404, "broken": 500}[kind]
    with pytest.raises(WeightsError, match=rf"127\.0\.0\.1:\d+: HTTP {code}"):
        fetch(entry_at(f"{server}/{kind}/w.pt"), progress=False)


def test_hugging_face_is_the_fallback(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "_hf_url", lambda repo, filename: f"{server}/hub/{repo}/{filename}")
    entry = entry_at(f"{server}/gone/w.pt", "1" * 64, hf_repo="org/good")
    path = fetch(entry, progress=False)
    assert path == tmp_path / "weights" / "org--good--open_clip_model.safetensors"
    assert path.read_bytes() == CONTENT
    assert fetch(entry, download=False) == path, "the hash of the first source is not asked of the second's file"
    with pytest.raises(WeightsError, match="expected " + "0" * 64):
        fetch(entry_at(None, "", hf_repo="org/bad"), progress=False)


def test_the_cache_of_hugging_face_is_used_and_verified(tmp_path: Path):
    repo = tmp_path / "hf" / "models--org--name"
    snapshot = repo / "snapshots" / "c0ffee"
    for folder in (repo / "blobs", repo / "refs", snapshot):
        folder.mkdir(parents=True)
    (repo / "refs" / "main").write_text("c0ffee")
    blob = repo / "blobs" / DIGEST
    blob.write_bytes(CONTENT)
    link = snapshot / "open_clip_model.safetensors"
    link.symlink_to(blob)
    entry = entry_at(None, "", hf_repo="org/name")
    assert cached_path(entry) == link
    assert fetch(entry, download=False) == link
    blob.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="not on this machine"):
        fetch(entry, download=False)


def test_the_caches_of_other_programs_are_used_if_whole(tmp_path: Path):
    entry = entry_at("https://127.0.0.1:1/w.pt")
    other = tmp_path / "home" / ".cache" / "clip" / "w.pt"
    other.parent.mkdir(parents=True)
    other.write_bytes(CONTENT)
    assert fetch(entry, download=False) == other
    other.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="not on this machine"):
        fetch(entry, download=False)


@pytest.mark.parametrize("variable", ["MONAI_ZSAD_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_how_to_bring_the_file(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(WeightsError) as caught:
        fetch("ViT-L-14-336:openai")
    entry, text = get_entry("ViT-L-14-336:openai"), str(caught.value)
    for part in (
        f"{variable} is set",
        f"curl -fL -o ViT-L-14-336px.pt {entry.url}",
        "python -m monai_zsad weights fetch ViT-L-14-336:openai --folder .",
        str(tmp_path / "weights"),
        "MONAI_ZSAD_WEIGHTS",
    ):
        assert part in text
    hub_only = get_entry("ViT-B-16:laion2b_s34b_b88k")
    with pytest.raises(WeightsError, match=r"https://huggingface.co/laion/\S+/resolve/main/open_clip_model"):
        fetch(hub_only)


def test_no_network_fails_soon_with_the_same_remedy(monkeypatch: pytest.MonkeyPatch):
    # Nothing listens on port 1, so the connection is refused at once, on machines with and without network.
    monkeypatch.setattr(download, "_hf_url", lambda repo, filename: f"http://127.0.0.1:1/{repo}/{filename}")
    with pytest.raises(WeightsError, match=r"(?s)127\.0\.0\.1:1: Connection refused\).*curl -fL") as caught:
        fetch(entry_at("http://127.0.0.1:1/w.pt", hf_repo="org/name"))
    assert str(caught.value).count("refused") == 1, "one host is tried once"

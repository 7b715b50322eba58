"""Weights files: reading every format, refusing what is not one, downloading with verified hashes."""

from __future__ import annotations

import hashlib
import pickle
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from monai_zsad.backbones import weights_io
from monai_zsad.backbones.weights import WeightsEntry, get_entry, list_entries
from monai_zsad.backbones.weights_io import (
    WeightsRecord,
    cached_path,
    clip_state_dict,
    fetch,
    prior_state_dict,
    prompts_state_dict,
    read_state_dict,
    sha256_of,
    weights_folder,
)
from monai_zsad.errors import WeightsError


class Tower(nn.Module):
    def __init__(self, activation: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 2, bias=False)
        self.proj = nn.Parameter(torch.randn(4, 2))
        self.activation = activation

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.conv1(image).mean((2, 3))
        x = torch.nn.functional.gelu(x) if self.activation == "gelu" else x * torch.sigmoid(1.702 * x)
        return x @ self.proj


class TinyCLIP(nn.Module):
    """OpenAI's names at a tiny size, with the numbers that its archives carry beside the parameters."""

    def __init__(self, activation: str = "quick_gelu") -> None:
        super().__init__()
        self.visual = Tower(activation)
        self.token_embedding = nn.Embedding(5, 3)
        self.text_projection = nn.Parameter(torch.randn(3, 2))
        for name, value in (("input_resolution", 4), ("context_length", 7), ("vocab_size", 5)):
            self.register_buffer(name, torch.tensor(value))

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return self.visual(image) @ (self.token_embedding(text).mean(1) @ self.text_projection).T


EXTRA = {"input_resolution", "context_length", "vocab_size"}


def tiny_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {key: value.detach().clone() for key, value in TinyCLIP().state_dict().items() if key not in EXTRA}


def save_torchscript(path: Path, activation: str = "quick_gelu") -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = TinyCLIP(activation).half()
    state = {key: value.detach().clone() for key, value in model.state_dict().items() if key not in EXTRA}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model.float(), (torch.zeros(1, 3, 4, 4), torch.zeros(1, 7, dtype=torch.long)))
        torch.jit.save(traced.half(), path)
    return state


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        assert not found[key].requires_grad
        torch.testing.assert_close(found[key], value, rtol=0, atol=0)


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's files, nor the network beyond this machine."""
    monkeypatch.setenv("MONAI_ZSAD_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    for variable in ("MONAI_ZSAD_OFFLINE", "HF_HUB_OFFLINE", "TORCH_HOME", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(variable, raising=False)


# ---- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["plain", "legacy", "checkpoint", "compiled", "safetensors", "misnamed"])
def test_every_format_gives_the_same_state(tmp_path: Path, form: str):
    state = tiny_state()
    path = tmp_path / "file.pt"
    if form == "plain":
        torch.save(state, path)
    elif form == "legacy":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif form == "checkpoint":
        wrapped = {f"module.{key}": value for key, value in state.items()}
        torch.save({"epoch": 3, "name": "run", "state_dict": wrapped, "optimizer": {"lr": 0.1}}, path)
    elif form == "compiled":
        torch.save({"state_dict": {f"module._orig_mod.{key}": value for key, value in state.items()}}, path)
    else:
        path = tmp_path / ("file.safetensors" if form == "safetensors" else "misnamed.bin")
        save_file(state, path)
    assert_equal(read_state_dict(path), state)
    found, record = clip_state_dict(path, architecture=None, activation="gelu")
    assert_equal(found, state)
    assert record == WeightsRecord(path.name, sha256_of(path), "unknown", "gelu")


def test_openai_archives_are_quick_gelu_and_read_without_warnings(tmp_path: Path):
    path = tmp_path / "archive.bin"
    state = save_torchscript(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, record = clip_state_dict(str(path), architecture="ViT-L-14-336")
    assert_equal(found, state)
    assert found["visual.proj"].dtype == torch.float16
    assert record.activation == "quick_gelu"
    assert read_state_dict(path).keys() >= EXTRA
    with pytest.raises(WeightsError, match="contradicts"):
        clip_state_dict(path, architecture=None, activation="gelu")


def test_an_archive_with_gelu_in_its_code_is_gelu(tmp_path: Path):
    save_torchscript(tmp_path / "archive.pt", "gelu")
    assert clip_state_dict(tmp_path / "archive.pt", architecture=None)[1].activation == "gelu"


def test_custom_text_names_become_openais(tmp_path: Path):
    state = tiny_state()
    custom = {key if key.startswith("visual.") else f"text.{key}": value for key, value in state.items()}
    torch.save(custom | {"text.attn_mask": torch.zeros(7, 7)}, tmp_path / "custom.pt")
    assert_equal(clip_state_dict(tmp_path / "custom.pt", architecture=None, activation="gelu")[0], state)


def test_an_unknown_file_must_say_its_activation(tmp_path: Path):
    torch.save(tiny_state(), tmp_path / "own.pt")
    with pytest.raises(WeightsError, match=r"own\.pt does not tell .*activation='quick_gelu'.*activation='gelu'"):
        clip_state_dict(tmp_path / "own.pt", architecture="ViT-B-16")


def test_another_layout_is_named(tmp_path: Path):
    torch.save({"vision_model.embeddings.class_embedding": torch.zeros(3)}, tmp_path / "hf.pt")
    with pytest.raises(WeightsError, match=r"lacks visual\.conv1\.weight.*begins with vision_model"):
        clip_state_dict(tmp_path / "hf.pt", architecture=None, activation="gelu")


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("form", ["zip", "legacy", "raw"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, form: str):
    path, victim = tmp_path / "evil.pt", tmp_path / "victim"
    content = {"state_dict": {"weight": Evil(victim)}}
    if form == "raw":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsError, match=r"evil\.pt is not a usable weights file: it holds Python objects"):
        read_state_dict(path)
    assert not victim.exists()
    torch.load(path, weights_only=False) if form != "raw" else pickle.loads(path.read_bytes())  # noqa: S301
    assert victim.exists(), "the file would have done harm, so that the refusal above means something"


@pytest.mark.parametrize("keep", [0.0, 0.2, 0.6, 0.99])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors", "torchscript"])
def test_truncated_files_are_refused(tmp_path: Path, form: str, keep: float):
    path = tmp_path / "cut.pt"
    if form == "safetensors":
        save_file(tiny_state(), path)
    elif form == "torchscript":
        save_torchscript(path)
    else:
        torch.save(tiny_state(), path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(WeightsError, match=r"cut\.pt is not a usable weights file: it is (truncated|empty)"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS"),
        (b"\n<!DOCTYPE html><html></html>", "web page"),
        (b"some notes about weights", "no checkpoint"),
    ],
)
def test_files_that_are_something_else_are_named(tmp_path: Path, content: bytes, reason: str):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=reason):
        read_state_dict(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3, "lr": 0.1}, {}, {"state_dict": {}}])
def test_a_checkpoint_without_tensors_is_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="no state dict of tensors"):
        read_state_dict(tmp_path / "x.pt")


@pytest.mark.parametrize("source", ["no/such/file", "missing.pt", "~/missing.safetensors", Path("missing")])
def test_a_missing_file_is_named(source: str | Path):
    for read in (prompts_state_dict, prior_state_dict):
        with pytest.raises(WeightsError, match=r"missing|no/such/file") as caught:
            read(source)
        assert "does not exist" in str(caught.value)


def test_a_folder_is_no_weights_file(tmp_path: Path):
    with pytest.raises(WeightsError, match="cannot be read: Is a directory"):
        prompts_state_dict(tmp_path)


# ---- names, records, kinds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["prompt_learner", "state_dict", "plain"])
def test_prompts_are_found_in_their_checkpoint(tmp_path: Path, form: str):
    prompts = {"ctx_pos": torch.randn(1, 1, 2, 3)}
    torch.save(prompts if form == "plain" else {form: prompts, "epoch": 1}, tmp_path / "p.pth")
    state, record = prompts_state_dict(tmp_path / "p.pth")
    assert_equal(state, prompts)
    assert (record.name, record.licence, record.activation) == ("p.pth", "unknown", None)


@pytest.mark.parametrize("entry", list_entries("prompts"), ids=lambda entry: entry.name)
def test_released_prompts_load_by_path_and_by_name(
    entry: WeightsEntry, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = shared / "checkpoints" / "crane" / (entry.url or "").split("/checkpoints/")[1]
    by_path, record = prompts_state_dict(file)
    assert record == WeightsRecord(entry.name, entry.sha256, "MIT", None)
    assert "/" not in record.summary()
    assert by_path["ctx_pos"].shape == (1, 1, 12, 768)
    assert len(by_path) == 16
    (tmp_path / entry.filename).write_bytes(file.read_bytes())
    monkeypatch.setenv("MONAI_ZSAD_WEIGHTS", str(tmp_path))
    by_name, same = prompts_state_dict(entry.name, download=False)
    assert_equal(by_name, by_path)
    assert same == record
    with pytest.raises(WeightsError, match="holds learned prompts, but CLIP weights are needed"):
        clip_state_dict(file, architecture="ViT-L-14-336")


def test_a_name_of_another_kind_is_refused_without_download():
    with pytest.raises(WeightsError, match="holds CLIP weights, but learned prompts are needed"):
        prompts_state_dict("ViT-B-16:openai")


def test_known_files_take_the_facts_of_their_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "renamed.bin"
    torch.save(tiny_state(), path)
    entry = replace(get_entry("ViT-B-16:openai"), sha256=sha256_of(path))
    monkeypatch.setattr(weights_io, "entry_of_sha256", lambda sha256, kind: entry if sha256 == entry.sha256 else None)
    record = clip_state_dict(path, architecture="ViT-B-16")[1]
    assert record == WeightsRecord(entry.name, entry.sha256, "MIT", "quick_gelu")
    assert clip_state_dict(path, architecture="ViT-B-16-quickgelu", activation="quick_gelu")[1] == record
    with pytest.raises(WeightsError, match="contradicts the weights ViT-B-16:openai"):
        clip_state_dict(path, architecture="ViT-B-16", activation="gelu")
    with pytest.raises(WeightsError, match=r"architecture ViT-B-16, but the network is ViT-L-14-336"):
        clip_state_dict(path, architecture="ViT-L-14-336")


def test_a_record_says_when_it_means_nothing():
    seeded = WeightsRecord("seed:3", "", "", "quick_gelu", seed=3)
    real = WeightsRecord("ViT-B-16:openai", "ab" * 32, "MIT", "quick_gelu")
    assert seeded.meaningless
    assert "mean nothing" in seeded.summary()
    assert not real.meaningless
    assert all(fact in real.summary() for fact in (real.name, real.sha256, "MIT", "quick_gelu"))


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


@pytest.fixture
def server() -> Iterator[str]:
    Handler.seen = []
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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
    assert "w.pt" in capsys.readouterr().err, "the progress bar"
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
    monkeypatch.setattr(weights_io, "_hf_url", lambda repo, filename: f"{server}/hub/{repo}/{filename}")
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
        clip_state_dict("ViT-L-14-336:openai", architecture="ViT-L-14-336")
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
    monkeypatch.setattr(weights_io, "_hf_url", lambda repo, filename: f"http://127.0.0.1:1/{repo}/{filename}")
    with pytest.raises(WeightsError, match=r"(?s)127\.0\.0\.1:1: Connection refused\).*curl -fL") as caught:
        fetch(entry_at("http://127.0.0.1:1/w.pt", hf_repo="org/name"))
    assert str(caught.value).count("refused") == 1, "one host is tried once"


def test_unknown_names_are_told_from_paths():
    with pytest.raises(WeightsError, match="are unknown; did you mean ViT-L-14-336:openai"):
        clip_state_dict("ViT-L-14-336:opena", architecture="ViT-L-14-336")

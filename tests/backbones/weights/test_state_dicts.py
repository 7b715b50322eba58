"""Weights files: reading every format, refusing what is not one, and the record of what was read."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from monai_zsad.backbones.weights import (
    WeightsEntry,
    WeightsRecord,
    clip_state_dict,
    get_entry,
    list_entries,
    prior_state_dict,
    prompts_state_dict,
    read_state_dict,
    sha256_of,
    state_dicts,
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
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's weights, nor a network."""
    monkeypatch.setenv("MONAI_ZSAD_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("MONAI_ZSAD_OFFLINE", "1")


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
        (b"some notes about weights", "not a checkpoint"),
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
    monkeypatch.setattr(state_dicts, "entry_of_sha256", lambda sha256, kind: entry if sha256 == entry.sha256 else None)
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


def test_unknown_names_are_told_from_paths():
    with pytest.raises(WeightsError, match="are unknown; did you mean ViT-L-14-336:openai"):
        clip_state_dict("ViT-L-14-336:opena", architecture="ViT-L-14-336")

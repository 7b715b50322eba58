from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from monai_zsad.networks import anchor_cache
from monai_zsad.networks.anchor_cache import anchor_folder, cached_text_features
from tests.networks.zoo import aaclip, anoclip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MONAI_ZSAD_WEIGHTS", str(tmp_path / "weights"))
    assert anchor_folder() == tmp_path / "text_features"
    return anchor_folder()


def features_of(network: Any, sentences: list[str], adapters: dict[str, torch.Tensor] | None = None) -> int:
    """How often the text tower ran."""
    calls = []

    def compute() -> torch.Tensor:
        calls.append(1)
        return torch.arange(3.0)

    found = cached_text_features(network.clip, sentences, compute, adapters)
    assert torch.equal(found, torch.arange(3.0))
    return len(calls)


def test_a_second_start_needs_no_text_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = anoclip()
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(type(first.clip), "encode_text", lambda *_: pytest.fail("the text tower ran"))
    second = anoclip()
    assert torch.equal(first.text_anchors, second.text_anchors)
    assert torch.equal(first.prompt_features, second.prompt_features)


def test_what_changes_the_features_changes_the_key() -> None:
    network = anoclip()
    sentences = ["a", "b"]
    assert features_of(network, sentences) == 1
    assert features_of(network, sentences) == 0
    assert features_of(network, ["b", "a"]) == 1
    assert features_of(network, sentences, {"x": torch.zeros(2)}) == 1
    assert features_of(network, sentences, {"x": torch.ones(2)}) == 1
    network.clip.load_weights("seed:1")
    assert features_of(network, sentences) == 1
    network.clip.record = None
    assert features_of(network, sentences) == 1
    assert features_of(network, sentences) == 1


def test_other_adapters_have_other_anchors() -> None:
    network = aaclip()
    before = network.text_anchors.clone()
    network.load_weights(clip="seed:0", image_adapter="seed:1", text_adapter="seed:2")
    assert not torch.allclose(network.text_anchors, before)
    network.load_weights(clip="seed:0", image_adapter="seed:1", text_adapter="seed:1")
    assert torch.equal(network.text_anchors, before)


def test_damaged_file_is_made_anew_and_unwritable_folder_is_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    network = anoclip()
    (file,) = folder.iterdir()
    file.write_bytes(b"not safetensors")
    again = anoclip()
    assert torch.equal(network.text_anchors, again.text_anchors)
    assert file.stat().st_size > 100
    (tmp_path / "file").touch()
    monkeypatch.setattr(anchor_cache, "anchor_folder", lambda: tmp_path / "file" / "below")
    assert torch.equal(anoclip().text_anchors, network.text_anchors)

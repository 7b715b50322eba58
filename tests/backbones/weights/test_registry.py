"""The registry: every entry is complete, and agrees with open_clip and timm where they know it."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from importlib.resources import files
from pathlib import Path

import pytest

from monai_zsad.backbones.weights import WeightsEntry, entry_of_sha256, get_entry, list_entries
from monai_zsad.errors import WeightsError

ENTRIES = list_entries()
CLIP = list_entries("clip")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_is_complete(entry: WeightsEntry):
    assert entry.licence
    assert entry.citation
    assert entry.description
    assert entry.size > 100_000
    assert entry.homepage.startswith("https://")
    assert entry.url or (entry.hf_repo and entry.hf_filename)
    assert entry.url is None or entry.url.startswith("https://")
    assert re.fullmatch(r"([0-9a-f]{8}|[0-9a-f]{64})?", entry.sha256)
    assert Path(entry.filename).name == entry.filename
    assert get_entry(entry.name) is entry
    if entry.kind == "prompts":
        assert entry.mean is None
        assert get_entry(entry.base or "").kind == "clip"
    else:
        assert len(entry.mean or ()) == len(entry.std or ()) == 3
    assert (entry.activation is not None) == (entry.kind == "clip")


def test_names_and_files_are_unique():
    text = files("monai_zsad.backbones.weights").joinpath("registry.yaml").read_text(encoding="utf-8")
    assert text.count("\n    name:") + text.count("\n  - name:") == len(ENTRIES), "an entry hides another"
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    local = [name for entry in ENTRIES for name in {entry.filename, entry.hf_local} - {None}]
    assert len(set(local)) == len(local)


def test_entries_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ENTRIES[0].sha256 = ""  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize("entry", CLIP, ids=lambda entry: entry.name)
def test_clip_entries_agree_with_open_clip(entry: WeightsEntry):
    import open_clip

    config = open_clip.get_pretrained_cfg(*entry.name.split(":"))
    assert open_clip.get_model_config(entry.architecture) is not None
    assert entry.name == f"{entry.architecture}:{entry.name.split(':')[1]}"
    assert (config["url"] or None) == entry.url
    if entry.hf_repo:
        assert config["hf_hub"] == f"{entry.hf_repo}/"
    assert entry.activation == ("quick_gelu" if config.get("quick_gelu") else "gelu")
    assert (entry.mean, entry.std) == (tuple(config["mean"]), tuple(config["std"]))
    assert not entry.url or entry.sha256 in entry.url


def test_the_prior_agrees_with_timm():
    import timm

    (entry,) = list_entries("prior")
    config = timm.models.get_pretrained_cfg(entry.architecture)
    assert config is not None
    assert (entry.url, entry.hf_repo) == (config.url, f"timm/{entry.architecture}")
    assert (entry.mean, entry.std) == (config.mean, config.std)
    assert config.license == entry.licence.lower()


@pytest.mark.parametrize("entry", list_entries("prompts"), ids=lambda entry: entry.name)
def test_released_prompts_have_the_stated_hash_and_size(entry: WeightsEntry, shared: Path):
    file = shared / "checkpoints" / "crane" / (entry.url or "").split("/checkpoints/")[1]
    content = file.read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry.sha256
    assert len(content) == entry.size


@pytest.mark.parametrize(
    ("name", "architecture", "activation", "source", "sha256"),
    [
        ("ViT-B-32:laion400m_e32", "ViT-B-32", "quick_gelu", "url", "46683a32"),
        ("ViT-B-16:laion400m_e32", "ViT-B-16", "gelu", "url", "55e67d44"),
        ("ViT-H-14-quickgelu:dfn5b", "ViT-H-14", "quick_gelu", "hf", ""),
        ("ViT-B-16:metaclip_400m", "ViT-B-16", "quick_gelu", "hf", ""),
        ("ViT-L-14:dfn2b_s39b", "ViT-L-14", "gelu", "hf", ""),
        ("ViT-B-16:DataComp-XL-s13B-b90K", "ViT-B-16", "gelu", "hf", ""),
    ],
)
def test_open_clip_names_resolve(name: str, architecture: str, activation: str, source: str, sha256: str):
    entry = get_entry(name)
    assert (entry.kind, entry.architecture, entry.activation, entry.sha256) == (
        "clip", architecture, activation, sha256,
    )  # fmt: skip
    assert (entry.url is None) == (source == "hf")
    assert (entry.hf_repo is None) == (source == "url")
    assert entry.licence


def test_every_open_clip_tag_resolves_or_is_refused_with_the_reason():
    import open_clip

    usable, refused = 0, []
    for architecture, tag in open_clip.list_pretrained():
        try:
            entry = get_entry(f"{architecture}:{tag}")
        except WeightsError as error:
            refused.append(str(error))
            continue
        usable += 1
        quick = bool(open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu"))
        assert entry.activation == ("quick_gelu" if quick else "gelu")
        assert entry.url or entry.hf_repo
    assert usable > 40
    assert refused
    assert all("layout" in reason for reason in refused)


def test_a_listed_entry_stands_for_its_quickgelu_name():
    assert get_entry("ViT-L-14-336-quickgelu:openai") is get_entry("ViT-L-14-336:openai")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ViT-L-14-336px:openai", "ViT-L-14-336:openai"),
        ("vit-b-16-plus-240:laion400m_e32", "ViT-B-16-plus-240:laion400m_e32"),
        ("dinov2_vitb14", "dinov2_vitb14_reg"),
        ("crane:mvtec", "crane:mvtec_epoch5"),
        ("ViT-B-16:laion2b", "ViT-B-16:laion2b_s34b_b88k"),
    ],
)
def test_unknown_names_get_near_ones(name: str, near: str):
    with pytest.raises(WeightsError, match="weights list") as caught:
        get_entry(name)
    assert near in str(caught.value)
    assert repr(name) in str(caught.value)


def test_another_layout_is_refused_before_any_download():
    with pytest.raises(WeightsError, match="ResNet"):
        get_entry("RN50:openai")


def test_files_are_known_by_their_hash():
    openai = get_entry("ViT-L-14-336:openai")
    assert entry_of_sha256(openai.sha256) is openai
    assert entry_of_sha256("46683a32" + 56 * "0") == get_entry("ViT-B-32:laion400m_e32")
    assert entry_of_sha256(64 * "0") is None
    assert entry_of_sha256(64 * "0", "prompts") is None

"""``monai-zsad weights``: what is printed, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_zsad.backbones.weights import get_entry, list_entries
from monai_zsad.cli.main import app
from monai_zsad.errors import WeightsError

KNOWN = "crane:mvtec_epoch5"
runner = CliRunner()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    weights = tmp_path / "weights"
    weights.mkdir()
    monkeypatch.setenv("MONAI_ZSAD_WEIGHTS", str(weights))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MONAI_ZSAD_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    return weights


@pytest.fixture
def released(folder: Path, shared: Path) -> Path:
    """A registered file in the weights folder."""
    source = shared / "checkpoints" / "crane" / "trained_on_mvtec_crane" / "epoch_5.pth"
    file = folder / get_entry(KNOWN).filename
    file.write_bytes(source.read_bytes())
    return file


def output(*arguments: str, code: int = 0) -> str:
    result = runner.invoke(app, ["weights", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_list_is_a_table_that_can_be_cut(released: Path) -> None:
    lines = output("list").splitlines()
    assert lines[0].split() == ["NAME", "KIND", "SIZE", "LICENCE", "CACHED", "WHAT"]
    assert len(lines) == len(list_entries()) + 1
    column = lines[0].index("CACHED")
    cached = {line.split()[0]: line[column:].split()[0] for line in lines[1:]}
    assert cached.pop(KNOWN) == "yes"
    assert set(cached.values()) == {"no"}
    assert all(line.isascii() and line == line.rstrip() for line in lines)


def test_list_as_json_of_one_kind(released: Path) -> None:
    entries = json.loads(output("list", "--json", "--kind", "prompts"))
    assert [entry["name"] for entry in entries] == [entry.name for entry in list_entries("prompts")]
    found = {entry["name"]: (entry["cached"], entry["path"]) for entry in entries}
    assert found[KNOWN] == (True, str(released))
    assert found["crane:visa_epoch5"] == (False, None)


def test_path_and_fetch_print_paths_only(released: Path, folder: Path) -> None:
    assert output("path", KNOWN) == f"{released}\n"
    assert output("fetch", KNOWN) == f"{released}\n"
    assert output("path") == f"{folder}\n"


def test_info_has_all_facts() -> None:
    text = output("info", "ViT-L-14-336:openai")
    entry = get_entry("ViT-L-14-336:openai")
    assert all(fact in text for fact in (entry.url or "?", entry.sha256, "MIT", "quick_gelu", entry.citation, "934 MB"))
    assert json.loads(output("info", entry.name, "--json"))["sha256"] == entry.sha256


def test_verify_finds_a_damaged_file(released: Path) -> None:
    assert output("verify").startswith(f"ok   {KNOWN}  dc9bf158")
    content = bytearray(released.read_bytes())
    content[-1] ^= 1
    released.write_bytes(content)
    assert output("verify", code=1).startswith(f"BAD  {KNOWN}")
    assert released.read_bytes() == content
    assert "BAD  crane:visa_epoch5" in output("verify", "crane:visa_epoch5", code=1)


def test_a_wrong_name_stops_fetch_before_the_first_download() -> None:
    result = runner.invoke(app, ["weights", "fetch", "crane:visa_epoch5", "crane:visa_epoch7"])
    assert isinstance(result.exception, WeightsError)
    assert "did you mean crane:visa_epoch5" in str(result.exception)

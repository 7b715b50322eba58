"""``monai-zsad prompts``: what is printed, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from monai_zsad.cli.main import app, main
from monai_zsad.errors import ConfigurationError
from monai_zsad.prompts import PromptEnsemble, anatomies, modalities, set_names, states

runner = CliRunner()


def output(*arguments: str, code: int = 0) -> str:
    result = runner.invoke(app, ["prompts", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_list_has_all_words():
    text = output("list")
    first = {line.split()[0] for line in text.splitlines() if line}
    assert first == {"SET", "ANATOMY", "MODALITY", "STATE", *set_names(), *anatomies(), *modalities(), *states()}
    assert all(line.isascii() and line == line.rstrip() for line in text.splitlines())
    found = json.loads(output("list", "--json"))
    assert found["sets"]["anoclip_object"]["normal"] == 462
    assert found["modalities"]["flair"]["images"][0] == "FLAIR image"
    assert found["states"]["polyp"]["anatomies"] == ["colon", "stomach"]
    assert "thorax" in found["anatomies"]["chest"]["aliases"]


def test_show_prints_all_sentences_with_their_tokens():
    text = output("show", "medical", "--anatomy", "brain", "--modality", "FLAIR")
    ensemble = PromptEnsemble.named("medical", anatomy="brain", modality="flair")
    lines = text.splitlines()
    rows = [line.split("  ", 1) for line in (line.strip() for line in lines) if line[:2].strip().isdigit()]
    assert [row[1] for row in rows if len(row) == 2] == list(ensemble.sentences)
    assert "TOO LONG" not in text


def test_show_as_json():
    found = json.loads(output("show", "aaclip", "--name", "colon endoscopy image", "--json"))
    assert found["normal"][0] == {"text": "colon endoscopy image.", "tokens": 7, "fits": True}
    assert len(found["abnormal"]) == 10
    assert (found["set"], found["name"], found["limit"]) == ("aaclip", "colon endoscopy image", 77)


def test_states_are_chosen():
    found = json.loads(output("show", "medical", "--state", "polyp", "--state", "mass", "--json"))
    assert len(found["abnormal"]) == 18
    assert found["abnormal"][0]["text"] == "a medical image of an organ with a polyp"


def test_an_own_file_starts_from_a_set(tmp_path: Path):
    written = output("show", "anoclip_medical", "--anatomy", "brain", "--modality", "t1c", "--yaml")
    path = tmp_path / "my.yaml"
    path.write_text(written)
    again = json.loads(output("show", "--file", str(path), "--json"))
    expected = PromptEnsemble.named("anoclip_medical", anatomy="brain", modality="t1c")
    assert tuple(entry["text"] for entry in again["abnormal"]) == expected.abnormal
    content = yaml.safe_load(written)
    path.write_text(yaml.safe_dump({**content, "abnormal": ["torn {}"]}))
    assert "a cropped post-contrast T1-weighted MRI scan of a torn brain" in output("show", "--file", str(path))


@pytest.mark.parametrize("as_json", [False, True])
def test_long_sentences_are_flagged(tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool):
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump({"normal": ["normal brain"], "abnormal": ["very " * 80 + "ill brain", "ill brain"]}))
    with pytest.raises(SystemExit) as stopped:
        main(["prompts", "show", "--file", str(path), *(["--json"] if as_json else [])])
    assert stopped.value.code == 1
    out, err = capsys.readouterr()
    assert "84 tokens" in err
    assert "'very very" in err
    if as_json:
        assert [entry["fits"] for entry in json.loads(out)["abnormal"]] == [False, True]
    else:
        assert [line.endswith("TOO LONG") for line in out.splitlines() if "ill brain" in line] == [True, False]


def test_errors_are_ours(tmp_path: Path):
    result = runner.invoke(app, ["prompts", "show", "anoclip"])
    assert isinstance(result.exception, ConfigurationError)
    assert "did you mean anoclip_" in str(result.exception)
    result = runner.invoke(app, ["prompts", "show", "--file", str(tmp_path / "none.yaml")])
    assert isinstance(result.exception, ConfigurationError)


def test_wrong_usage():
    output("show", code=2)
    output("show", "crane", "--file", "x.yaml", code=2)
    output("show", "crane", "--json", "--yaml", code=2)

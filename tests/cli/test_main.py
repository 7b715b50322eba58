"""The command line: what is printed where, and exit codes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from monai_zsad import __version__
from monai_zsad.backbones import CLIPBackbone
from monai_zsad.backbones.weights import get_entry, list_entries
from monai_zsad.cli.main import app, main
from monai_zsad.errors import WeightsError
from tests.networks.zoo import ARCHITECTURE

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
    monkeypatch.delenv("MONAI_ZSAD_TRACEBACK", raising=False)
    return weights


@pytest.fixture
def prompts(folder: Path, shared: Path) -> Path:
    """A registered file in the weights folder."""
    entry = get_entry("crane:mvtec_epoch5")
    released = shared / "checkpoints" / "crane" / "trained_on_mvtec_crane" / "epoch_5.pth"
    file = folder / entry.filename
    file.write_bytes(released.read_bytes())
    return file


def output(*arguments: str, code: int = 0) -> str:
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_version():
    assert output("--version").split() == ["monai-zsad", __version__]


def test_list_is_a_table_that_can_be_cut(prompts: Path):
    lines = output("weights", "list").splitlines()
    assert lines[0].split() == ["NAME", "KIND", "SIZE", "LICENCE", "CACHED", "WHAT"]
    assert len(lines) == len(list_entries()) + 1
    column = lines[0].index("CACHED")
    cached = {line.split()[0]: line[column:].split()[0] for line in lines[1:]}
    assert cached.pop("crane:mvtec_epoch5") == "yes"
    assert set(cached.values()) == {"no"}
    assert all(line.isascii() and line == line.rstrip() for line in lines)


def test_list_as_json_of_one_kind(prompts: Path):
    entries = json.loads(output("weights", "list", "--json", "--kind", "prompts"))
    assert [entry["name"] for entry in entries] == [entry.name for entry in list_entries("prompts")]
    found = {entry["name"]: (entry["cached"], entry["path"]) for entry in entries}
    assert found["crane:mvtec_epoch5"] == (True, str(prompts))
    assert found["crane:visa_epoch5"] == (False, None)


def test_path_and_fetch_print_paths_only(prompts: Path, folder: Path):
    assert output("weights", "path", "crane:mvtec_epoch5") == f"{prompts}\n"
    assert output("weights", "fetch", "crane:mvtec_epoch5") == f"{prompts}\n"
    assert output("weights", "path") == f"{folder}\n"


def test_info_tells_all():
    text = output("weights", "info", "ViT-L-14-336:openai")
    entry = get_entry("ViT-L-14-336:openai")
    assert all(fact in text for fact in (entry.url or "?", entry.sha256, "MIT", "quick_gelu", entry.citation, "934 MB"))
    assert json.loads(output("weights", "info", entry.name, "--json"))["sha256"] == entry.sha256


def test_verify_finds_a_damaged_file(prompts: Path):
    assert output("weights", "verify").startswith("ok   crane:mvtec_epoch5  dc9bf158")
    content = bytearray(prompts.read_bytes())
    content[-1] ^= 1
    prompts.write_bytes(content)
    text = output("weights", "verify", code=1)
    assert text.startswith("BAD  crane:mvtec_epoch5")
    assert prompts.read_bytes() == content
    assert "BAD  crane:visa_epoch5" in output("weights", "verify", "crane:visa_epoch5", code=1)


def test_a_wrong_name_stops_fetch_before_the_first_download(folder: Path):
    result = runner.invoke(app, ["weights", "fetch", "crane:visa_epoch5", "crane:visa_epoch7"])
    assert isinstance(result.exception, WeightsError)
    assert "'crane:visa_epoch7' are unknown; did you mean crane:visa_epoch5" in str(result.exception)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose released weights are random, so that nothing is fetched."""
    network = {"_target_": "monai_zsad.networks.Crane", "architecture": ARCHITECTURE, "image_size": 28}
    content = {"released_weights": {"clip": "seed:7", "prompts": "seed:8"}, "network_def": network}
    config = tmp_path / "tiny bundle" / "configs" / "inference.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(yaml.safe_dump(content))
    return config.parents[1]


def test_convert_says_what_it_wrote_and_how_to_run_it(bundle: Path):
    result = runner.invoke(app, ["convert", str(bundle), "--weights", "clip=seed:3"])
    assert result.exit_code == 0, result.output
    file = bundle / "models" / "model.pt"
    lines = result.stdout.splitlines()
    assert lines[0] == f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB)"
    assert lines[1].split()[:2] == ["clip:", "seed:3"]
    assert lines[2].split()[:2] == ["prompts:", "seed:8"]
    command = shlex.split(lines[-1])
    assert command[:4] == ["python", "-m", "monai.bundle", "run"]
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert options["--config_file"] == str(bundle / "configs" / "inference.yaml")
    assert options["--bundle_root"] == str(bundle)
    assert "--checkpoint" not in options
    assert "results mean nothing" in result.stderr


def test_convert_takes_short_options_and_another_file(bundle: Path, tmp_path: Path):
    file = tmp_path / "own" / "weights.pt"
    text = output("convert", str(bundle), "--clip", "seed:1", "--prompts", "seed:2", "-o", str(file))
    assert f"--checkpoint {file} " in text
    assert not (bundle / "models").exists()
    content = json.loads(file.with_suffix(".json").read_text())
    assert [record["seed"] for record in content["weights"].values()] == [1, 2]
    assert exit_code("convert", str(bundle), "-o", str(file)) == 1
    assert "clip: seed:7" in output("convert", str(bundle), "-o", str(file), "--overwrite")


def test_convert_takes_the_name_of_a_bundle(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (bundle.parent / "bundles").mkdir()
    folder = bundle.rename(bundle.parent / "bundles" / "mine")
    monkeypatch.chdir(folder.parents[1])
    text = output("convert", "mine")
    assert "wrote bundles/mine/models/model.pt (" in text
    assert (folder / "models" / "model.pt").is_file()
    assert "--config_file bundles/mine/configs/inference.yaml --bundle_root bundles/mine --dataset_dir" in text
    # One that comes with the package is found by its name, too: its parts are known.
    assert exit_code("convert", "crane", "-w", "adapter=x.pt") == 1
    assert "adapter, which this method does not have: it has clip, prompts" in capsys.readouterr().err
    assert exit_code("convert", "crain") == 1
    assert "crain is no bundle: give its folder, or one of aaclip" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prior", "seed:0"], "weights name prior, which this method does not have: it has clip, prompts"),
        (["-w", "adapter=x.pt"], "weights name adapter, which this method does not have"),
        (["-w", "clip"], "--weights clip: give a part and a source"),
        (["-w", "=seed:0"], "--weights =seed:0: give a part and a source"),
        (["--clip", ""], "--clip: give a part and a source"),
        (["--clip", "seed:0", "-w", "clip=seed:1"], "the source of clip is given twice"),
        (["--clip", "nowhere/clip.pt"], "nowhere/clip.pt does not exist"),
    ],
)
def test_convert_refuses(bundle: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str):
    assert exit_code("convert", str(bundle), *arguments) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.out == ""
    assert not (bundle / "models").exists()


def test_convert_hands_the_activation_on(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    clip = CLIPBackbone(ARCHITECTURE, 28, activation="quick_gelu")
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    arguments = ("convert", str(bundle), "--clip", str(tmp_path / "clip.pt"))
    assert exit_code(*arguments) == 1
    assert "does not tell which activation" in capsys.readouterr().err
    assert "clip: clip.pt" in output(*arguments, "--activation", "quick_gelu")
    assert exit_code(*arguments, "--activation", "relu") == 2


def exit_code(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


def test_errors_are_one_message_on_stderr(capsys: pytest.CaptureFixture[str]):
    assert exit_code("weights", "fetch", "crane:visa_epoch5") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: the weights crane:visa_epoch5 are not on this machine")
    assert printed.err.count("error:") == 1
    assert "Traceback" not in printed.err


def test_usage_errors_and_success_have_their_codes(capsys: pytest.CaptureFixture[str]):
    assert exit_code("weights", "bogus") == 2
    assert exit_code("weights", "info") == 2
    assert exit_code("--version") == 0
    capsys.readouterr()


def test_a_traceback_on_request(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MONAI_ZSAD_TRACEBACK", "1")
    with pytest.raises(WeightsError):
        main(["weights", "info", "nothing"])


def test_as_a_program(folder: Path):
    command = [sys.executable, "-m", "monai_zsad"]
    done = subprocess.run([*command, "weights", "path", "nothing"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: weights 'nothing' are unknown")
    assert "Traceback" not in done.stderr


def test_help_imports_nothing_heavy():
    code = (
        "import sys, monai_zsad.cli.main\n"
        "print(sorted({'torch', 'monai', 'numpy', 'open_clip', 'timm', 'huggingface_hub'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"

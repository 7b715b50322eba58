"""``monai-zsad convert``: what it writes and prints. tests/test_bundles_access.py tests ``monai-zsad bundle``."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from monai_zsad.backbones import CLIPBackbone
from monai_zsad.cli.main import app
from monai_zsad.errors import ZsadError
from tests.networks.zoo import ARCHITECTURE

runner = CliRunner()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle whose released weights are random, so that nothing is downloaded."""
    network = {"_target_": "monai_zsad.networks.Crane", "architecture": ARCHITECTURE, "image_size": 28}
    content = {"released_weights": {"clip": "seed:7", "prompts": "seed:8"}, "network_def": network}
    config = tmp_path / "tiny bundle" / "configs" / "inference.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(yaml.safe_dump(content))
    return config.parents[1]


def output(*arguments: str, code: int = 0) -> str:
    result = runner.invoke(app, ["convert", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def refusal(*arguments: str) -> str:
    """The message of the error that stops the command before it prints anything."""
    result = runner.invoke(app, ["convert", *arguments])
    assert isinstance(result.exception, ZsadError), result.output
    assert result.output == ""
    return str(result.exception)


def test_convert_prints_what_it_wrote_and_how_to_run_it(bundle: Path) -> None:
    result = runner.invoke(app, ["convert", str(bundle), "--weights", "clip=seed:3"])
    assert result.exit_code == 0, result.output
    file = bundle / "models" / "model.pt"
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"wrote {file} (")
    assert lines[1].split()[:2] == ["clip:", "seed:3"]
    assert lines[2].split()[:2] == ["prompts:", "seed:8"]
    command = shlex.split(lines[-1])
    assert command[:4] == ["python", "-m", "monai.bundle", "run"]
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert options["--config_file"] == str(bundle / "configs" / "inference.yaml")
    assert options["--bundle_root"] == str(bundle)
    assert "--checkpoint" not in options
    assert "random" in result.stderr


def test_convert_takes_short_options_and_another_file(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "own" / "weights.pt"
    text = output(str(bundle), "--clip", "seed:1", "--prompts", "seed:2", "-o", str(file))
    assert f"--checkpoint {file} " in text
    assert not (bundle / "models").exists()
    content = json.loads(file.with_suffix(".json").read_text())
    assert [record["seed"] for record in content["weights"].values()] == [1, 2]
    assert str(file) in refusal(str(bundle), "-o", str(file))
    assert "clip: seed:7" in output(str(bundle), "-o", str(file), "--overwrite")


def test_convert_takes_the_name_of_a_bundle(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle.parent / "bundles").mkdir()
    folder = bundle.rename(bundle.parent / "bundles" / "mine")
    monkeypatch.chdir(folder.parents[1])
    text = output("mine")
    assert "wrote bundles/mine/models/model.pt (" in text
    assert (folder / "models" / "model.pt").is_file()
    assert "--config_file bundles/mine/configs/inference.yaml --bundle_root bundles/mine --dataset_dir" in text
    # A bundle of the package is found by its name too: its parts are known.
    assert "clip, prompts" in refusal("crane", "-w", "adapter=x.pt")
    assert "aaclip" in refusal("crain")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--prior", "seed:0"], "clip, prompts"),
        (["-w", "adapter=x.pt"], "clip, prompts"),
        (["-w", "clip"], "--weights clip:"),
        (["-w", "=seed:0"], "--weights =seed:0:"),
        (["--clip", ""], "--clip:"),
        (["--clip", "seed:0", "-w", "clip=seed:1"], "--weights clip=seed:1:"),
        (["--clip", "nowhere/clip.pt"], "nowhere/clip.pt"),
    ],
)
def test_convert_refuses(bundle: Path, arguments: list[str], named: str) -> None:
    assert named in refusal(str(bundle), *arguments)
    assert not (bundle / "models").exists()


def test_convert_passes_the_activation_on(bundle: Path, tmp_path: Path) -> None:
    clip = CLIPBackbone(ARCHITECTURE, 28, activation="quick_gelu")
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    arguments = (str(bundle), "--clip", str(tmp_path / "clip.pt"))
    assert "activation" in refusal(*arguments)
    assert "clip: clip.pt" in output(*arguments, "--activation", "quick_gelu")
    output(*arguments, "--activation", "relu", code=2)

from __future__ import annotations

from pathlib import Path

import pytest

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.options.command_line import check_options

CONFIG = """
window: auto
bundle_root: .
weights: {clip: null}
steps: [{size: 1}]
dataset: '@window'
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "inference.yaml").write_text(CONFIG)
    (tmp_path / "fast.yaml").write_text("image_size: 336\n")
    return str(tmp_path / "inference.yaml")


def command(config: str, *arguments: str) -> list[str]:
    return ["/somewhere/monai/bundle/__main__.py", "run", "--config_file", config, *arguments]


def test_known_options_pass(config: str) -> None:
    check_options(command(config, "--window", "brain", "--weights#clip", "seed:0", "--bundle_root=."))
    check_options(command(config, "--steps#0#size", "2", "--dataset#transform", "3", "--logging_file", "x"))


def test_options_of_overlays_are_known(config: str, tmp_path: Path) -> None:
    both = f"['{config}','{tmp_path / 'fast.yaml'}']"
    check_options(command(both, "--image_size", "224"))
    with pytest.raises(ConfigurationError, match="--image_size"):
        check_options(command(config, "--image_size", "224"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--windw", "brain"], "--windw is not an option of .*; did you mean --window"),
        (["--weights#clp", "seed:0"], "no part clp; did you mean clip"),
        (["--steps#1#size=2"], "--steps#1#size"),
        (["--xyz"], "--xyz .*configs/inference.yaml"),
    ],
)
def test_misspelt_options_are_refused(config: str, arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_options(command(config, *arguments))


def test_other_programs_are_left_alone(config: str) -> None:
    check_options(["/usr/bin/pytest", "run", "--windw", "x"])
    check_options(["/somewhere/monai/bundle/__main__.py", "verify_metadata", "--windw", "x"])

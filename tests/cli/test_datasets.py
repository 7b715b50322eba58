"""``monai-zsad datasets``: what is printed, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_zsad.cli.datasets import app
from monai_zsad.data.benchmarks import known_benchmarks
from monai_zsad.errors import ConfigurationError, InputError
from tests.data.benchmarks.miniature import make_polyps

runner = CliRunner()


def output(*arguments: str, code: int = 0) -> str:
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def test_list_has_all_sets() -> None:
    lines = output("list").splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *known_benchmarks()]
    assert all(line == line.rstrip() for line in lines)
    found = json.loads(output("list", "--json"))
    assert {entry["name"]: entry["abnormal"] for entry in found}["visa"] == 1200
    assert next(entry for entry in found if entry["name"] == "dagm")["licence"] is None


def test_show_says_where_to_get_a_set() -> None:
    text = output("show", "DAGM")
    assert "https://www.kaggle.com/datasets/mhskjelvareid/dagm-2007" in text
    assert "8050 (not known normal, not known anomalous)" in text
    assert "CLASS/{Train,Test}/Label/*_label.PNG" in text
    assert json.loads(output("show", "ksdd", "--json"))["prompt_names"] == {"SDD": "electrical commutators"}
    error = runner.invoke(app, ["show", "imagenet"]).exception
    assert isinstance(error, ConfigurationError)


@pytest.mark.parametrize("arguments", [(), ("--quick",)])
def test_a_complete_set(arguments: tuple[str, ...], tmp_path: Path) -> None:
    make_polyps(tmp_path, 60)
    text = output("check", "cvc-300", str(tmp_path), *arguments)
    assert text.splitlines()[-1] == "complete"
    assert "layout pairs, part test" in text


def test_an_incomplete_set(tmp_path: Path) -> None:
    make_polyps(tmp_path, 5)
    (tmp_path / "masks" / "0.png").unlink()
    text = output("check", "cvc-300", str(tmp_path), code=1)
    assert "PROBLEM  anomalous: 5 found, 60 expected" in text
    assert "PROBLEM  1 anomalous images without a mask: images/0.png" in text
    found = json.loads(output("check", "cvc-300", str(tmp_path), "--json", code=1))
    assert found["missing_masks"] == ["images/0.png"]
    assert found["complete"] is False


def test_numbers_that_are_not_known(tmp_path: Path) -> None:
    for part in ("good", "Ungood"):
        make_polyps(tmp_path / "test" / part, 1)
        (tmp_path / "test" / part / "images").rename(tmp_path / "test" / part / "img")
    text = output("check", "bmad-chest", str(tmp_path))
    assert "how many images there should be is not known" in text


def test_a_folder_without_the_set(tmp_path: Path) -> None:
    error = runner.invoke(app, ["check", "visa", str(tmp_path)]).exception
    assert isinstance(error, InputError)
    assert "spot-diff" in str(error)

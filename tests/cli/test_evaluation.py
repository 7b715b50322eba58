"""``monai-zsad datasets`` and ``score``: what is printed, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from monai_zsad.cli.main import app
from monai_zsad.data.benchmarks import known_benchmarks
from monai_zsad.errors import ConfigurationError, InputError
from tests.data.benchmarks.miniature import make_polyps
from tests.evaluation.test_scoring import make_run

runner = CliRunner()


def output(*arguments: str, code: int = 0) -> str:
    result = runner.invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.stdout


def test_list_has_all_sets() -> None:
    lines = output("datasets", "list").splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *known_benchmarks()]
    assert all(line == line.rstrip() for line in lines)
    found = json.loads(output("datasets", "list", "--json"))
    assert {entry["name"]: entry["abnormal"] for entry in found}["visa"] == 1200
    assert next(entry for entry in found if entry["name"] == "dagm")["licence"] is None


def test_show_prints_where_to_get_a_set() -> None:
    text = output("datasets", "show", "DAGM")
    assert "https://www.kaggle.com/datasets/mhskjelvareid/dagm-2007" in text
    assert "8050 (" in text
    assert "CLASS/{Train,Test}/Label/*_label.PNG" in text
    found = json.loads(output("datasets", "show", "ksdd", "--json"))
    assert found["prompt_names"] == {"SDD": "electrical commutators"}
    assert isinstance(runner.invoke(app, ["datasets", "show", "imagenet"]).exception, ConfigurationError)


def test_a_complete_set(tmp_path: Path) -> None:
    make_polyps(tmp_path, 60)
    for arguments in ((), ("--quick",)):
        text = output("datasets", "check", "cvc-300", str(tmp_path), *arguments)
        assert text.splitlines()[-1] == "complete"
        assert "layout pairs, part test" in text


def test_an_incomplete_set(tmp_path: Path) -> None:
    make_polyps(tmp_path, 5)
    (tmp_path / "masks" / "0.png").unlink()
    text = output("datasets", "check", "cvc-300", str(tmp_path), code=1)
    problems = [line for line in text.splitlines() if line.startswith("PROBLEM  ")]
    assert any("5" in line and "60" in line for line in problems)
    assert any("images/0.png" in line for line in problems)
    found = json.loads(output("datasets", "check", "cvc-300", str(tmp_path), "--json", code=1))
    assert found["missing_masks"] == ["images/0.png"]
    assert found["complete"] is False


def test_a_set_of_which_no_number_is_known(tmp_path: Path) -> None:
    for part in ("good", "Ungood"):
        make_polyps(tmp_path / "test" / part, 1)
        (tmp_path / "test" / part / "images").rename(tmp_path / "test" / part / "img")
    text = output("datasets", "check", "bmad-chest", str(tmp_path))
    assert "PROBLEM" not in text
    assert text.splitlines()[-1] != "complete"


def test_a_folder_without_the_set(tmp_path: Path) -> None:
    error = runner.invoke(app, ["datasets", "check", "visa", str(tmp_path)]).exception
    assert isinstance(error, InputError)
    assert "spot-diff" in str(error)


def test_score_prints_a_table_and_json(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "headct", ("brain",))
    text = output("score", str(folder), "--bootstrap", "0")
    assert any(file.read_text(encoding="utf-8") in text for file in folder.glob("*.md"))
    assert (folder / "index.html").is_file()
    text = output("score", str(folder), "--bootstrap", "0", "--json", "--no-page")
    assert json.loads(text)["benchmark"] == "headct"
    (tmp_path / "empty").mkdir()
    assert isinstance(runner.invoke(app, ["score", str(tmp_path / "empty")]).exception, InputError)

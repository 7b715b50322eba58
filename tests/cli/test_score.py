"""``monai-zsad score``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from monai_zsad.cli.score import score
from monai_zsad.errors import InputError
from tests.evaluation.test_scoring import make_run

app = typer.Typer()
app.command()(score)


def test_table_and_json(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "headct", ("brain",))
    done = CliRunner().invoke(app, [str(folder), "--bootstrap", "0"], catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout.endswith((folder / "figures.md").read_text(encoding="utf-8"))
    assert (folder / "index.html").is_file()
    done = CliRunner().invoke(app, [str(folder), "--bootstrap", "0", "--json", "--no-page"], catch_exceptions=False)
    assert json.loads(done.stdout)["benchmark"] == "headct"


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the output folder of a bundle's"):
        CliRunner().invoke(app, [str(tmp_path)], catch_exceptions=False)

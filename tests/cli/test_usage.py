"""Wrong usage of the commands: the message says what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from monai_zsad.cli.main import app

SCREEN = ["screen", "x", "-o", "y"]


def message(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "300", "TERM": "dumb"})
    assert done.exit_code == 2, done.output
    return done.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["scren"], "did you mean screen"),
        (["bundle", "lst"], "did you mean list?"),
        (["fetch"], "did you mean `weights fetch`?"),
        (["list"], "`weights list`, `bundle list` or `datasets list`?"),
        (["unheard-of"], "--help` lists the commands"),
        (["anna.nii.gz"], "screen anna.nii.gz -o RESULTS`"),
        ([*SCREEN, "--anatmy", "brain"], "did you mean --anatomy?"),
        ([*SCREEN, "--batch_size", "3"], "give --set batch_size=VALUE"),
        ([*SCREEN, "--candidate_threshold", "0.3"], "give --threshold"),
        ([*SCREEN, "--case_names", "hash"], "give --case-names"),
        (["screen", "x", "--output_dir", "y"], "--output FOLDER"),
        (["compare", "x", "--anatomy", "brain"], "give --set anatomy=VALUE"),
        (["demo", "--threshold", "0.3"], "it is an option of `screen`"),
        (["report", "x", "--xyzzy"], "--help` lists the options"),
        (["screen"], "SCANS is missing: A volume file"),
        (["screen", "x"], "--output is missing: Folder for the results"),
        (["screen", "a", "b", "-o", "c"], "give one path: the folder of all scans or a list"),
        (["slicer", "my", "case"], "a name with spaces needs quotes"),
        (["bundle", "list", "a"], "this command takes none"),
        ([*SCREEN, "--threshold", "1.5"], "1.5 cannot be used; give a number from 0 to 1"),
        ([*SCREEN, "--threshold", "-1"], "-1 cannot be used; give a number from 0 to 1"),
        ([*SCREEN, "--limit", "0"], "0 cannot be used; give a whole number of at least 1"),
        ([*SCREEN, "--limit", "many"], "'--limit': give a whole number"),
        ([*SCREEN, "--threshold", "high"], "'--threshold': give a number"),
    ],
)
def test_messages_say_what_is_right(words: list[str], expected: str):
    assert expected in message(*words)


def test_a_missing_word_is_answered_with_an_example():
    assert "Example: " in message("screen")


def test_a_file_that_exists_is_a_scan(tmp_path: Path):
    (tmp_path / "scans").mkdir()
    assert "to screen scans, run" in message(str(tmp_path / "scans"))


def test_options_that_are_right_pass():
    assert "there is no" not in message(*SCREEN, "--threshold", "0.5", "--limit", "0")

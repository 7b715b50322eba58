"""Help of every command: a sentence, an example that the command understands, a text for each option."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from monai_zsad.cli.main import app


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it."""
    for name, inner in command.commands.items():
        if hasattr(inner, "commands"):
            yield from commands(inner, (*path, name))
        else:
            yield (*path, name), inner


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.fixture(params=COMMANDS, ids=" ".join)
def path(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return request.param


def test_help_has_a_sentence_and_texts(path: tuple[str, ...]):
    command = COMMANDS[path]
    summary = command.help.split("\n\n")[0]
    assert summary[0].isupper()
    assert summary.endswith(".")
    assert 4 <= len(summary.split()) <= 30
    without = [option.name for option in command.params if option.name != "help" and not (option.help or "").strip()]
    assert not without


def test_example_is_one_that_the_command_understands(path: tuple[str, ...]):
    command = COMMANDS[path]
    (example,) = re.findall(r"^Example: (.*)$", command.help, re.M)
    words = shlex.split(example)
    assert words[: 3 + len(path)] == ["python", "-m", "monai_zsad", *path]
    # Reads the words and runs nothing; a wrong option or a missing argument raises.
    command.make_context(" ".join(path), words[3 + len(path) :])


def test_help_is_printed_in_full(path: tuple[str, ...]):
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 0, done.output
    assert f"Example: monai-zsad {' '.join(path)}" in done.output
    printed = "".join(done.output.split())
    for option in COMMANDS[path].params:
        assert not option.opts[0].startswith("--") or option.opts[0] in done.output
        assert "".join((option.help or "").split()) in printed
    for paragraph in COMMANDS[path].help.replace("Example: python -m monai_zsad", "Example: monai-zsad").split("\n\n"):
        assert "".join(paragraph.split()) in printed


def test_help_breaks_lines_at_the_terminals_width_alone(path: tuple[str, ...]):
    assert not re.search(r"[^\n]\n[^\n]", COMMANDS[path].help)


def test_programs_help_names_every_command():
    done = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert {path[0] for path in COMMANDS} <= set(done.output.replace("│", " ").split())
    assert len(COMMANDS) >= 22

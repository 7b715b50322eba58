"""Help of every command: a sentence, an example that the command understands, a text for each option."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from monai_zsad import bundles
from monai_zsad.cli.main import app
from monai_zsad.workflow.options.early import read_yaml
from monai_zsad.workflow.options.table import OPTIONS


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


def shown(*words: str, columns: int = 80) -> list[str]:
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": str(columns), "TERM": "dumb"})
    assert done.exit_code == 0
    return done.output.splitlines()


def test_first_screen_of_a_terminal_shows_what_a_newcomer_needs():
    first = "\n".join(shown("screen")[:24])
    for option in ("SCANS", "--output", "--bundle", "--report", "--threshold", "--quiet", "--overwrite", "--resume"):
        assert option in first
    assert "--anatomy" in first
    assert "Example: " in first


def test_panels_of_screen_have_their_order():
    titles = [line.split()[1:-1] for line in shown("screen") if re.match("[─-]{2} ", line)]
    assert [" ".join(title) for title in titles] == ["Basic", "Prompts", "DICOM", "Many scans", "Hardware", "Advanced"]


def test_commands_are_grouped():
    output = "\n".join(shown())
    titles = ["Screen", "Look at results", "Prompts and weights", "Develop", "Options"]
    places = [output.index(f" {title} ─") for title in titles]
    assert places == sorted(places)
    assert places[0] < output.index(" demo ") < output.index(" screen ") < places[1]
    assert places[1] < output.index(" report ") < places[2] < output.index(" weights ") < places[3]


def test_no_line_is_wider_than_the_terminal(path: tuple[str, ...]):
    # An address that is not broken may be longer.
    assert [line for line in shown(*path, columns=80) if len(line) > 80 and "http" not in line] == []


def test_every_value_has_a_name(path: tuple[str, ...]):
    for option in COMMANDS[path].params:
        assert option.metavar or getattr(option, "is_flag", False), option.name


def test_summaries_fit_in_a_line_beside_the_command(path: tuple[str, ...]):
    assert len(COMMANDS[path].help.split("\n\n")[0]) <= 72


def test_defaults_of_the_table_are_those_of_every_bundle():
    """Help shows one default for an option. It says so where a bundle has its own."""
    configs = {name: read_yaml(bundles.path(name) / "configs" / "inference.yaml") for name in bundles.names()}
    shared = [option for option in OPTIONS if option.flag and option.everywhere]
    assert len(shared) > 15
    for option in shared:
        for bundle, config in configs.items():
            own = config[option.name]
            assert own == option.default or f"{bundle}: {own}" in option.help, option.name
    text = " ".join(" ".join(shown("screen", columns=300)).split())
    assert "plane of the slices: axial, coronal, sagittal or acquisition. [default: axial]" in text.lower()
    assert "Candidates contain a map value above it (musc: 0.995, a quantile). [default: 0.5]" in text
    assert "your own .yaml file. [default: the bundle's own]" in text


def test_help_needs_no_heavy_package():
    program = "import sys\nfrom monai_zsad.cli.main import main\ntry:\n    main(['screen', '--help'])\n"
    program += "except SystemExit:\n    print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Basic" in done.stdout
    loaded = set(re.findall(r"'([\w.]+)'", done.stderr))
    assert "typer" in loaded
    assert loaded.isdisjoint({"rich.markdown", "rich.console", "numpy", "torch", "monai", "pydicom", "nibabel"})

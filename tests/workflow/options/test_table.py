"""An option is declared once: everything else is made of the table."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.options.early import check_values
from monai_zsad.workflow.options.option import Flag, Option
from monai_zsad.workflow.options.settings import Settings
from monai_zsad.workflow.options.table import OPTIONS
from monai_zsad.workflow.options.views import cli_parameters, given_options, markdown_table, yaml_lines

ROOT = Path(__file__).resolve().parents[3]
NEW = Option(
    "sharpness", 1.5, "sharpen the map by this factor", "Advanced", "number", minimum=0, maximum=4,
    decides="findings", flag=Flag("--sharpness"),
)  # fmt: skip
TABLE = (*OPTIONS, NEW)


def command(table: tuple[Option, ...]) -> typer.Typer:
    def screen(**options: Any) -> None:
        typer.echo(given_options(options, table))

    screen.__signature__ = inspect.Signature(cli_parameters(table))  # type: ignore[attr-defined]
    app = typer.Typer()
    app.command()(screen)
    return app


def test_a_new_option_is_found_everywhere() -> None:
    """Command line and help, check and message, record of settings, inference.yaml, documentation."""
    app = command(TABLE)
    done = CliRunner().invoke(app, ["--sharpness", "2.5"])
    assert done.output.strip() == "{'sharpness': 2.5}"
    assert "sharpness" in CliRunner().invoke(app, ["--help"]).output
    assert CliRunner().invoke(app, ["--sharpness", "5"]).exit_code == 2

    with pytest.raises(ConfigurationError, match=r"sharpness=9 .*a number from 0 to 4"):
        Settings(TABLE, sharpness=9).as_dict()
    settings = Settings(TABLE, sharpness=2, plane="axial", report="light", device="cpu")
    assert settings.findings == {"plane": "axial", "sharpness": 2}
    assert settings.files == {"findings": settings.findings, "report": "light"}

    (line,) = set(yaml_lines({}, TABLE)) - set(yaml_lines({}))
    assert yaml.safe_load(line) == {"sharpness": 1.5}
    assert NEW.help in line
    (row,) = set(markdown_table(TABLE).splitlines()) - set(markdown_table().splitlines())
    assert "`--sharpness`" in row


def test_without_the_entry_it_is_found_nowhere() -> None:
    assert CliRunner().invoke(command(OPTIONS), ["--sharpness", "2.5"]).exit_code == 2
    with pytest.raises(ConfigurationError, match="sharpness"):
        Settings(sharpness=2)


def test_names_are_unique_and_defaults_are_accepted() -> None:
    for names in ([option.name for option in OPTIONS], [option.flag.name for option in OPTIONS if option.flag]):
        assert len(names) == len(set(names))
    for option in OPTIONS:
        if not (isinstance(option.default, str) and option.default.startswith("$")):
            assert option.parse(option.default) == option.default


def test_the_documents_hold_the_table() -> None:
    """``python -m monai_zsad bundle update`` does not write this page: copy the table into it."""
    assert markdown_table() in (ROOT / "docs" / "options.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("refine", "false", False),
        ("plane", "coronal", "coronal"),
        ("limit", None, None),
        ("limit", 3, 3),
        ("candidate_threshold", 1, 1),
        ("accept", ["constant"], ["constant"]),
        ("accept", "constant", ["constant"]),
        ("max_candidates", None, None),
        ("window", [40, 80], [40, 80]),
    ],
)
def test_values(option: str, value: Any, expected: Any) -> None:
    assert getattr(Settings(**{option: value}), option) == expected


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("refine", "perhaps"),
        ("order", "date"),
        ("limit", 0),
        ("limit", True),
        ("limit", 1.5),
        ("candidate_threshold", 1.5),
        ("candidate_threshold", -1),
        ("candidate_threshold", float("nan")),
        ("accept", "gap"),
        ("accept", ["constant", "missing-slices"]),
        ("accept", {"constant": True}),
        ("repair", ["constant"]),
        ("dicom", ["seg", "pdf"]),
        ("precision", "half"),
        ("window", "brian"),
        ("window", [40, -80]),
        ("overlap", 2),
        ("fused_planes", ["axial", "sagital"]),
        ("output_ext", ".nrrd"),
        ("output_dtype", "float31"),
        ("token_spacing_mm", 0),
        ("max_candidates", 0),
        ("volume", -1),
        ("runtime", None),
    ],
)
def test_values_that_are_refused(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        getattr(Settings(**{option: value}), option)


def test_a_mistyped_choice_gets_a_suggestion() -> None:
    with pytest.raises(ConfigurationError, match="did you mean random"):
        Settings(order="randm").as_dict()


def test_names_of_the_command_line_and_ids() -> None:
    assert given_options({"dicom": "seg, pm", "repair": ["tilted-gantry"], "progress": False, "weights#clip": "x"}) == {
        "dicom": ["seg", "pm"],
        "repair": ["tilted-gantry"],
        "progress": False,
        "weights#clip": "x",
    }
    with pytest.raises(ConfigurationError, match="the same option"):
        given_options({"threshold": 0.4, "candidate_threshold": 0.5})
    with pytest.raises(ConfigurationError, match="window"):
        given_options({"window": "[40, 80"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dicom": ["sr"]}, "the report .sr. refers to the segmentation; add seg"),
        ({"dicom": "sr"}, "add seg"),
        ({"candidate_low": 0.7, "candidate_threshold": 0.5}, "candidate_low=0.7 .* raise --threshold"),
        ({"alpha": 0.1, "calibration": None}, "give --calibration FILE"),
    ],
)
def test_options_that_contradict_each_other(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_values(values)
    with pytest.raises(ConfigurationError, match=message):
        Settings(**values).check(["python"])


def test_options_that_go_together() -> None:
    check_values({"dicom": ["seg", "sr"], "candidate_low": None, "candidate_threshold": 0.5})
    check_values({"candidate_low": 0.5, "candidate_threshold": 0.5, "alpha": 0.1, "calibration": "$None"})
    # The bundle's other values are not known here.
    check_values({"candidate_low": 0.7, "alpha": 0.1})

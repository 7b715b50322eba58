"""Views of the table of options: the command line, lines of ``inference.yaml``, the table of the documentation."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_args

import typer

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.options.option import Group, Option
from monai_zsad.workflow.options.table import OPTIONS

__all__ = ["cli_parameters", "given_options", "markdown_table", "yaml_lines"]

_TYPES = {"flag": bool, "number": float, "integer": int}
_COMMENT_COLUMN = 36


def cli_parameters(table: Sequence[Option] = OPTIONS) -> list[inspect.Parameter]:
    """Parameters of a typer command: one for each option with a flag, keyword only, None where it is not given.

    Args:
        table: the options.

    Example:
        >>> [parameter.name for parameter in cli_parameters()][:2]
        ['overwrite', 'resume']
    """
    return [_parameter(option) for option in table if option.flag is not None]


def _parameter(option: Option) -> inspect.Parameter:
    flag = option.flag
    if flag is None:
        raise ConfigurationError(f"option {option.name} has no flag")
    single = _TYPES.get(option.kind, str)
    kind: Any = list[str] if flag.parse == "repeat" else single
    declared = [flag.name]
    if option.kind == "flag":
        declared = [f"{flag.name}/--no-{flag.name.removeprefix('--')}" if flag.off else flag.name]
    text = option.help[0].upper() + option.help[1:] + (". Repeat." if flag.parse == "repeat" else ".")
    info = typer.Option(
        *declared,
        help=text,
        metavar=flag.metavar or {"number": "NUMBER", "integer": "N"}.get(option.kind),
        rich_help_panel=option.group,
        show_default=_shown_default(option) or False,
        callback=_checked(option),
    )
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info]
    )


def _shown_default(option: Option) -> str:
    """The default that help shows: the command line itself has None, so that a bundle's own value stays."""
    default = option.default
    if default is None or default is False or default == []:
        return ""
    if not option.everywhere:
        return "the bundle's own"
    if isinstance(default, str) and default.startswith("$"):
        return "automatic"
    return "on" if default is True else str(default)


def _checked(option: Option) -> Callable[[Any], Any]:
    """A number out of range is wrong usage; other values are compared with the whole configuration later."""

    def check(value: Any) -> Any:
        if value is not None and option.kind in ("number", "integer"):
            try:
                option.parse(value)
            except ConfigurationError as error:
                raise typer.BadParameter(f"{value:g} cannot be used; give {option.accepted_numbers}") from error
        return value

    return check


def given_options(values: Mapping[str, Any], table: Sequence[Option] = OPTIONS) -> dict[str, Any]:
    """Values by id from what the command line or Python was given; what is None is left out.

    Args:
        values: by id, or by the name of the option's flag without dashes (``threshold``); texts as the flag takes them.
        table: the options.

    Returns:
        Values by id. Names that are in neither form stay as they are.

    Raises:
        ConfigurationError: if one option is given by both names, or a text is not YAML where it should be.

    Example:
        >>> given_options({"threshold": 0.4, "state": "edema", "window": "[40, 80]", "plane": None})
        {'candidate_threshold': 0.4, 'states': ['edema'], 'window': [40, 80]}
    """
    by_flag = {option.flag.name.removeprefix("--").replace("-", "_"): option for option in table if option.flag}
    by_id = {option.name: option for option in table}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if value is None:
            continue
        option = by_id.get(name) or by_flag.get(name)
        key = name if option is None else option.name
        if key in found:
            raise ConfigurationError(f"{name} and {key} are the same option: give one of them")
        found[key] = value if option is None else _parsed(option, value)
    return found


def _parsed(option: Option, value: Any) -> Any:
    parse = "plain" if option.flag is None else option.flag.parse
    if parse == "repeat":
        return [value] if isinstance(value, str) else list(value)
    if not isinstance(value, str):
        return value
    if parse == "comma":
        return [part.strip() for part in value.split(",") if part.strip()]
    if parse == "yaml":
        import yaml

        try:
            return yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{option.name}={value!r} is not YAML: put it in quotes") from error
    return value


def yaml_lines(own: Mapping[str, Any], table: Sequence[Option] = OPTIONS) -> list[str]:
    """Lines of ``inference.yaml``: every option that all bundles have, with its default and its help.

    Args:
        own: what the bundle's own part has already, by id; left out here.
        table: the options.
    """
    lines = []
    for option in table:
        if option.everywhere and option.name not in own:
            setting = f"{option.name}: {_yaml_value(option.default)}"
            lines.append(f"{setting:<{_COMMENT_COLUMN - 2}}  # {option.help}")
    return lines


def _yaml_value(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value) if value.startswith(("$", "@")) else value
    return json.dumps(value)


def markdown_table(table: Sequence[Option] = OPTIONS) -> str:
    """The options as tables of the documentation, one for each group."""
    lines = []
    for group in get_args(Group):
        lines += [
            f"## {group}",
            "",
            "| option | `screen` | default | what it does | changes |",
            "|---|---|---|---|---|",
        ]
        lines += [_markdown_row(option) for option in table if option.group == group]
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def _markdown_row(option: Option) -> str:
    flag = f"`{option.flag.name}`" if option.flag else ""
    default = _yaml_value(option.default) if option.everywhere else "the bundle's"
    if default.startswith('"$'):
        default = "automatic"
    return f"| `{option.name}` | {flag} | {default} | {option.help.replace('|', '/')} | {option.decides} |"

"""How the commands show their help, in panels, and what they say about wrong usage.

Typer's own help needs rich with its Markdown parser, which takes longer to import than all commands. It also leaves two
lines of the screen to each panel's frame, and names the type of an option that takes no value.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from monai_zsad.errors import did_you_mean
from monai_zsad.workflow.options.option import Group
from monai_zsad.workflow.options.table import OPTIONS

__all__ = ["HelpedCommand", "HelpedGroup"]

# Typer may bring its own copy of click, so that its errors are not those of the package click.
_UsageError: Any = typer.BadParameter.__mro__[1]
_PANELS = ("Arguments", *get_args(Group), "Options")
_MODULE = "python -m monai_zsad"
_WIDEST, _NAMES = 110, 28
_FIXED = "\N{NO-BREAK SPACE}"


class HelpedCommand(TyperCommand):
    """A command whose options are shown in panels; wrong usage is answered with what is right."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The arguments by their names, then the options without which it does not run."""
        del ctx
        arguments = [one for one in self.params if _is_argument(one)]
        words = [_names(one) if one.required else f"[{_names(one)}]" for one in arguments]
        needed = [one for one in self.params if one.required and not _is_argument(one)]
        return [*words, *(f"{_option_names(one)[0]} {_metavar(one)}" for one in needed), "[OPTIONS]"]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, summary, example, panels of options, and then the details."""
        panels: dict[str, list[Any]] = {}
        for one in self.get_params(ctx):
            if not getattr(one, "hidden", False):
                panels.setdefault(_panel(one, self.params), []).append(one)
        rows = {
            panel: [(_names(one), _text(one)) for one in sorted(panels[panel], key=_place_in_panel)]
            for panel in sorted(panels, key=_place)
        }
        _write_help(self, ctx, formatter, rows)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line."""
        with _answered(ctx):
            return super().parse_args(ctx, args)


class HelpedGroup(TyperGroup):
    """A group whose commands are shown in panels; a mistyped command is answered with a similar one."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, summary, panels of commands, and the options of the group itself."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None)
                panel = panel if isinstance(panel, str) else "Commands"
                panels.setdefault(panel, []).append((name, (command.help or "").split("\n\n")[0]))
        panels["Options"] = [(_names(one), _text(one)) for one in self.get_params(ctx)]
        _write_help(self, ctx, formatter, panels)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line up to the name of a command."""
        with _answered(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that the words name."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"there is no command {args[0]!r}; {_other_command(self, args[0], ctx)}")
        return super().resolve_command(ctx, args)


def _described(text: str, ctx: Any) -> tuple[str, list[str], list[str]]:
    """Summary, example and details of a docstring, with the program's name as it was called."""
    program = ctx.find_root().command_path
    paragraphs = [part.replace(f"Example: {_MODULE}", f"Example: {program}") for part in text.split("\n\n") if part]
    example = [part for part in paragraphs[1:] if part.startswith("Example:")]
    return paragraphs[0] if paragraphs else "", example, [part for part in paragraphs[1:] if part not in example]


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _WIDEST)


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _width() - 1, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _write_help(command: Any, ctx: Any, formatter: Any, panels: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    summary, example, details = _described(command.help or "", ctx)
    paragraphs = [command.get_usage(ctx), _filled(summary), *(_filled(one, "  ") for one in example)]
    formatter.write("\n\n".join([*paragraphs, ""]))
    # The texts of all commands begin in one column.
    widths = [len(name) for title, rows in panels.items() for name, _ in rows if title != "Options"]
    in_one_column = isinstance(command, HelpedGroup)
    for title, rows in panels.items():
        own = [len(name) for name, _ in rows]
        _write_panel(formatter, title, rows, widths if in_one_column and title != "Options" else own)
    for paragraph in details:
        formatter.write("\n" + _filled(paragraph) + "\n")


def _write_panel(formatter: Any, title: str, rows: Sequence[tuple[str, str]], widths: Sequence[int]) -> None:
    line = "─" if (sys.stdout.encoding or "").lower().startswith("utf") else "-"
    formatter.write(typer.style(f"{line * 2} {title} ".ljust(_width() - 1, line), bold=True) + "\n")
    column = min(max(widths), _NAMES) + 2
    for name, text in rows:
        lines = textwrap.wrap(text, _width() - 2 - column, break_long_words=False, break_on_hyphens=False) or [""]
        lines = [line.replace(_FIXED, " ") for line in lines]
        if len(name) + 2 > column:
            lines.insert(0, "")
        shown = typer.style(name, fg="cyan") + " " * (column - len(name))
        formatter.write(f" {shown}{lines[0]}".rstrip() + "\n")
        for more in lines[1:]:
            formatter.write(" " * (column + 1) + more + "\n")


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _panel(parameter: Any, among: Sequence[Any]) -> str:
    named = getattr(parameter, "rich_help_panel", None)
    if isinstance(named, str):
        return named
    # --help belongs to no panel of its own.
    if any(getattr(one, "rich_help_panel", None) == _PANELS[1] for one in among):
        return _PANELS[1]
    return "Arguments" if _is_argument(parameter) else "Options"


def _place(panel: str) -> int:
    return _PANELS.index(panel) if panel in _PANELS else len(_PANELS)


def _place_in_panel(parameter: Any) -> int:
    """What is needed, then what takes a value, then switches."""
    return 0 if _is_argument(parameter) else 1 if parameter.required else 2 if _metavar(parameter) else 3


def _names(parameter: Any) -> str:
    """``-o, --output FOLDER``; an argument by its name alone."""
    if _is_argument(parameter):
        name = parameter.metavar or str(parameter.name).upper()
        return f"{name}..." if parameter.nargs != 1 else name
    names = _option_names(parameter)
    if parameter.secondary_opts:
        names[-1] += f"/{parameter.secondary_opts[0]}"
    return f"{', '.join(names)} {_metavar(parameter)}".strip()


def _option_names(parameter: Any) -> list[str]:
    """Names of an option, the short one first."""
    return sorted(parameter.opts, key=lambda name: name.startswith("--"))


def _metavar(parameter: Any) -> str:
    return parameter.metavar or ("" if getattr(parameter, "is_flag", False) else "VALUE")


def _text(parameter: Any) -> str:
    """The option's own text, and its default."""
    text = (parameter.help or "").strip()
    if parameter.required:
        return f"{text} [required]"
    shown, default = getattr(parameter, "show_default", None), parameter.default
    if not isinstance(shown, str):
        shown = "" if shown is False or callable(default) else _value(default, parameter)
    # A default is not broken over two lines.
    return f"{text} [default:{_FIXED}{shown.replace(' ', _FIXED)}]" if shown else text


def _value(value: Any, parameter: Any) -> str:
    if isinstance(value, bool) and parameter.secondary_opts:
        return str((parameter.opts if value else parameter.secondary_opts)[0])
    if value is None or value is False or not isinstance(value, str | int | float | list | tuple | Enum | Path):
        return ""
    if isinstance(value, Enum):
        return str(value.value)
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@contextmanager
def _answered(ctx: Any) -> Iterator[None]:
    """Errors of usage say what would be right."""
    try:
        yield
    except _UsageError as error:
        kind = type(error).__name__
        if kind == "NoSuchOption":
            answer = _other_option(error.option_name, ctx)
            raise _UsageError(f"there is no option {error.option_name}; {answer}", ctx) from None
        if kind == "MissingParameter" and error.param is not None:
            name = _names(error.param) if _is_argument(error.param) else _option_names(error.param)[-1]
            _, example, _ = _described(ctx.command.help or "", ctx)
            raise _UsageError("\n".join([f"{name} is missing: {error.param.help}", *example]), ctx) from None
        if kind == "BadParameter":
            error.message = _plainer(error.message)
        if "unexpected extra argument" in str(error):
            raise _UsageError(f"{error.message}; {_surplus(ctx)}", ctx) from None
        raise


def _plainer(message: str) -> str:
    """A message of pydantic, by which Typer reads values, without its own words."""
    if "unable to parse string as an integer" in message:
        return "give a whole number"
    return "give a number" if "unable to parse string as a number" in message else message.removeprefix("Value error, ")


def _surplus(ctx: Any) -> str:
    """What to do about more words than a command has arguments."""
    names = [_names(one) for one in ctx.command.params if _is_argument(one)]
    if names == ["SCANS"]:
        return "give one path: the folder of all scans or a list of them; a name with spaces needs quotes"
    return "a name with spaces needs quotes" if names else "this command takes none"


def _other_option(name: str, ctx: Any) -> str:
    """What was probably meant by an unknown option."""
    own = [option for one in ctx.command.params for option in (*one.opts, *one.secondary_opts) if option[0] == "-"]
    plain = name.lstrip("-").replace("-", "_")
    if "--set" in own:
        for option in OPTIONS:
            if plain == option.name or (option.flag and name == option.flag.name):
                if option.flag and option.flag.name in own:
                    return f"give {option.flag.name}"
                return f"give --set {option.name}=VALUE"
        if plain in ("dataset_dir", "output_dir"):
            return "give the scans without an option, and --output FOLDER for the results"
    if hint := did_you_mean(name.lstrip("-"), [one.lstrip("-") for one in own], listed=False, prefix="--"):
        return hint
    if having := [path for path, command in _commands(ctx.find_root().command) if name in _options(command)]:
        return f"it is an option of {_listed(having)}"
    return f"`{ctx.command_path} --help` lists the options"


def _other_command(group: Any, name: str, ctx: Any) -> str:
    """What was probably meant by an unknown command."""
    if Path(name).exists() or re.search(r"\.(nii|gz|nrrd|dcm|zip|png|jpe?g)$", name):
        return f"to screen scans, run `{ctx.find_root().command_path} screen {name} -o RESULTS`"
    if hint := did_you_mean(name, group.commands, listed=False):
        return hint
    if inner := [path for path, _ in _commands(ctx.find_root().command) if path.split()[-1] == name.lower()]:
        return f"did you mean {_listed(inner)}?"
    return f"`{ctx.command_path} --help` lists the commands"


def _listed(paths: Sequence[str]) -> str:
    names = [f"`{path}`" for path in paths]
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _commands(group: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every command below a group, with the words that call it."""
    found = []
    inner: Mapping[str, Any] = group.commands
    for name, command in inner.items():
        words = f"{path} {name}".strip()
        found += _commands(command, words) if hasattr(command, "commands") else [(words, command)]
    return found


def _options(command: Any) -> set[str]:
    return {option for one in command.params if not _is_argument(one) for option in one.opts}

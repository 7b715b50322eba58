"""The command line: ``monai-zsad`` or ``python -m monai_zsad``.

Each group of commands has one module, and is registered here. Such a module imports heavy packages inside its
commands only, so that ``--help`` answers at once. ``python -m monai.bundle``, MONAI's own command line, runs the same
bundles.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from monai_zsad._version import __version__
from monai_zsad.cli import bundles, evaluation, prompts, weights
from monai_zsad.cli.app import app as app_page
from monai_zsad.cli.bundles import convert, export
from monai_zsad.cli.compare import compare
from monai_zsad.cli.demo import demo
from monai_zsad.cli.evaluation import score
from monai_zsad.cli.helping import HelpedCommand, HelpedGroup
from monai_zsad.cli.integrations import label_bundle, label_server, slicer
from monai_zsad.cli.results import calibrate, info, report, store
from monai_zsad.cli.screen import screen
from monai_zsad.errors import ZsadError, show_tracebacks

__all__ = ["app", "main"]

# Panels of the program's help, in this order, with their commands and groups of commands.
_PANELS: dict[str, tuple[Any, ...]] = {
    "Screen": (demo, screen, app_page, info, calibrate),
    "Look at results": (report, compare, store, slicer, label_server),
    "Prompts and weights": (convert, export, prompts.app, weights.app, bundles.app),
    "Develop": (score, label_bundle, evaluation.app),
}
_GROUPS = {bundles.app: "bundle", evaluation.app: "datasets", prompts.app: "prompts", weights.app: "weights"}

app = typer.Typer(
    name="monai-zsad",
    help="Zero-shot anomaly detection for medical volumes. Begin with `demo`, then screen your own scans.",
    cls=HelpedGroup,
    context_settings={"help_option_names": ["--help", "-h"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for panel, entries in _PANELS.items():
    for entry in entries:
        if isinstance(entry, typer.Typer):
            app.add_typer(entry, name=_GROUPS[entry], cls=HelpedGroup, rich_help_panel=panel)
        else:
            app.command(cls=HelpedCommand, rich_help_panel=panel)(entry)
for group in (app, *_GROUPS):
    for info_of in group.registered_commands:
        # Otherwise the help breaks its lines where the source breaks them, and again at the terminal's width.
        info_of.help = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(info_of.callback) or "")
        info_of.cls = HelpedCommand


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"monai-zsad {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process.

    The exit status is 0 for success, 1 for an error that the user can correct, and 2 for wrong usage. Such an error is
    one message on stderr; with ``MONAI_ZSAD_TRACEBACK=1`` it keeps its traceback. Any other exception is a defect of
    the package and keeps its traceback too.

    Args:
        arguments: arguments without the program's name; ``None`` for those of the process.
    """
    try:
        app(args=None if arguments is None else list(arguments))
    except ZsadError as error:
        if show_tracebacks():
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)

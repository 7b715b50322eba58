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
from typing import Annotated

import typer

from monai_zsad._version import __version__
from monai_zsad.cli import bundles, evaluation, prompts, weights
from monai_zsad.cli.bundles import convert
from monai_zsad.cli.compare import compare
from monai_zsad.cli.demo import demo
from monai_zsad.cli.evaluation import score
from monai_zsad.cli.integrations import label_bundle, label_server, slicer
from monai_zsad.cli.results import calibrate, info, report
from monai_zsad.cli.screen import screen
from monai_zsad.errors import ZsadError, show_tracebacks

__all__ = ["app", "main"]

app = typer.Typer(
    name="monai-zsad",
    help="Zero-shot anomaly detection for medical volumes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (calibrate, compare, convert, demo, info, label_bundle, label_server, report, score, screen, slicer):
    app.command()(command)
app.add_typer(bundles.app, name="bundle")
app.add_typer(evaluation.app, name="datasets")
app.add_typer(prompts.app, name="prompts")
app.add_typer(weights.app, name="weights")
for group in (app, *(added.typer_instance for added in app.registered_groups)):
    for info_of in group.registered_commands if group else ():
        # Otherwise the help breaks its lines where the source breaks them, and again at the terminal's width.
        info_of.help = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(info_of.callback) or "")


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

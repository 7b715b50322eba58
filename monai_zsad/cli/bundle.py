"""``monai-zsad bundle``: the bundles that come with the package, their folders, and copies of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_zsad import bundles

__all__ = ["app"]

app = typer.Typer(help="The bundles that come with the package: list, path, copy.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(help="A name of `bundle list`.")]


@app.command("list")
def list_bundles() -> None:
    """List the names of the bundles, one a line.

    Example: python -m monai_zsad bundle list
    """
    for name in bundles.names():
        typer.echo(name)


@app.command("path")
def print_path(name: _Name) -> None:
    """Print the folder of a bundle, and nothing else: the --bundle_root of MONAI's own `python -m monai.bundle run`.

    Example: python -m monai_zsad bundle path crane
    """
    typer.echo(str(bundles.path(name)))


@app.command("copy")
def copy_bundle(
    name: _Name,
    folder: Annotated[Path, typer.Argument(help="Folder that the copy is put into, under the bundle's name.")],
) -> None:
    """Copy a bundle, to change it or to convert weights into it; prints the copy's folder, replaces nothing.

    Example: python -m monai_zsad bundle copy crane my_bundles
    """
    typer.echo(str(bundles.copy(name, folder)))

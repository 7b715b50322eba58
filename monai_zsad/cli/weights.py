"""``monai-zsad weights``: what weights exist, where they lie, whether they are whole."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from monai_zsad.backbones.weights import WeightsEntry

__all__ = ["app"]

app = typer.Typer(help="Released weights: list, fetch, verify.", no_args_is_help=True)


class _Kind(str, Enum):
    clip = "clip"
    prior = "prior"
    prompts = "prompts"


_Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="Weights folder; else MONAI_ZSAD_WEIGHTS, else the user's cache folder."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_weights(
    kind: Annotated[_Kind | None, typer.Option("--kind", help="Only this kind.")] = None,
    as_json: _Json = False,
    folder: _Folder = None,
) -> None:
    """List known weights. Any ARCHITECTURE:TAG of open_clip's plain ViTs works besides these.

    Example: python -m monai_zsad weights list --kind clip
    """
    from monai_zsad.backbones.weights import list_entries

    entries = list_entries(kind.value if kind else None)
    if as_json:
        typer.echo(json.dumps([_facts(entry, folder) for entry in entries], indent=2))
        return
    rows = [("NAME", "KIND", "SIZE", "LICENCE", "CACHED", "WHAT")]
    for entry in entries:
        cached = "yes" if _facts(entry, folder)["cached"] else "no"
        rows.append((entry.name, entry.kind, _size(entry.size), entry.licence, cached, entry.description))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names as `weights list` prints them.")],
    folder: _Folder = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Download weights that are not here yet, verify them, and print their paths.

    Example: python -m monai_zsad weights fetch ViT-L-14-336:openai
    """
    from monai_zsad.backbones.weights import get_entry
    from monai_zsad.backbones.weights_fetch import fetch as fetch_weights

    # All names are looked up before the first, perhaps long, download.
    for entry in [get_entry(name) for name in names]:
        typer.echo(str(fetch_weights(entry, folder=folder, progress=not quiet)))


@app.command()
def path(
    name: Annotated[str | None, typer.Argument(help="Without it: the weights folder.")] = None,
    folder: _Folder = None,
) -> None:
    """Print where weights lie, without downloading; an error if they are not here or not whole.

    Example: python -m monai_zsad weights path ViT-L-14-336:openai
    """
    from monai_zsad.backbones.weights_fetch import fetch as fetch_weights
    from monai_zsad.backbones.weights_fetch import weights_folder

    if name is None:
        typer.echo(str(folder or weights_folder()))
    else:
        typer.echo(str(fetch_weights(name, folder=folder, download=False)))


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="A name as `weights list` prints it, or open_clip's ARCHITECTURE:TAG.")],
    as_json: _Json = False,
    folder: _Folder = None,
) -> None:
    """Print all that is known about one entry.

    Example: python -m monai_zsad weights info ViT-L-14-336:openai
    """
    from monai_zsad.backbones.weights import get_entry

    facts = _facts(get_entry(name), folder)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        typer.echo(f"{key.ljust(width)}  {_readable(key, value)}".rstrip())


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Without any: all listed weights that are here.")
    ] = None,
    folder: _Folder = None,
) -> None:
    """Compare files with their published hashes; the exit status is 1 if one differs or is missing.

    Example: python -m monai_zsad weights verify
    """
    from monai_zsad.backbones.weights import get_entry, list_entries
    from monai_zsad.backbones.weights_fetch import cached_path, sha256_of
    from monai_zsad.backbones.weights_fetch import fetch as fetch_weights
    from monai_zsad.errors import WeightsError

    listed = [entry for entry in list_entries() if cached_path(entry, folder=folder)]
    bad = 0
    for entry in [get_entry(name) for name in names] if names else listed:
        try:
            found = fetch_weights(entry, folder=folder, download=False)
        except WeightsError as error:
            bad += 1
            typer.echo(f"BAD  {entry.name}")
            typer.echo(f"error: {error}", err=True)
            continue
        note = "" if entry.sha256 and found.name == entry.filename else "  (the publisher states no hash)"
        typer.echo(f"ok   {entry.name}  {sha256_of(found)}{note}")
    if not names and not listed:
        typer.echo("none of the listed weights are on this machine", err=True)
    if bad:
        raise typer.Exit(1)


def _facts(entry: WeightsEntry, folder: Path | None) -> dict[str, Any]:
    from monai_zsad.backbones.weights_fetch import cached_path

    found = cached_path(entry, folder=folder)
    return asdict(entry) | {"cached": found is not None, "path": str(found) if found else None}


def _size(size: int) -> str:
    if not size:
        return "?"
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size < 1e7 else f"{size / 1e6:.0f} MB"


def _readable(key: str, value: Any) -> str:
    if key == "size":
        return _size(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value))
    return "-" if value in (None, "") else str(value)

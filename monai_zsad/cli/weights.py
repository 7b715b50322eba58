"""``monai-zsad weights``: the released weights, their files on this machine, and checks of these files."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_zsad.cli.printing import JsonOption, file_size, print_facts, print_json, print_table

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
    typer.Option(
        "--folder", metavar="FOLDER", help="Weights folder. Default: MONAI_ZSAD_WEIGHTS, or the user's cache folder."
    ),
]


@app.command("list")
def list_weights(
    kind: Annotated[_Kind | None, typer.Option("--kind", metavar="KIND", help="List only this kind.")] = None,
    as_json: JsonOption = False,
    folder: _Folder = None,
) -> None:
    """List the known weights, and which are on this machine.

    Other plain ViTs of open_clip work too, by ARCHITECTURE:TAG.

    Example: python -m monai_zsad weights list --kind clip
    """
    from monai_zsad.backbones.weights import list_entries

    entries = list_entries(kind.value if kind else None)
    if as_json:
        print_json([_facts(entry, folder) for entry in entries])
        return
    print_table(
        ("NAME", "KIND", "SIZE", "LICENCE", "CACHED", "WHAT"),
        [
            (
                entry.name,
                entry.kind,
                file_size(entry.size),
                entry.licence,
                "yes" if _facts(entry, folder)["cached"] else "no",
                entry.description,
            )
            for entry in entries
        ],
    )


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names as `weights list` prints them.")],
    folder: _Folder = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress bar.")] = False,
) -> None:
    """Download weights, verify them, and print their paths.

    What is on this machine already is not downloaded again.

    Example: python -m monai_zsad weights fetch ViT-L-14-336:openai
    """
    from monai_zsad.backbones.weights import fetch as fetch_weights
    from monai_zsad.backbones.weights import get_entry

    # A download can take long; a wrong name must be reported before the first one.
    for entry in [get_entry(name) for name in names]:
        typer.echo(str(fetch_weights(entry, folder=folder, progress=not quiet)))


@app.command()
def path(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name as `weights list` prints it. Default: the weights folder."),
    ] = None,
    folder: _Folder = None,
) -> None:
    """Print the path of weights, without a download.

    It is an error if they are missing or damaged.

    Example: python -m monai_zsad weights path ViT-L-14-336:openai
    """
    from monai_zsad.backbones.weights import fetch as fetch_weights
    from monai_zsad.backbones.weights import weights_folder

    if name is None:
        typer.echo(str(folder or weights_folder()))
    else:
        typer.echo(str(fetch_weights(name, folder=folder, download=False)))


@app.command()
def info(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name as `weights list` prints it, or open_clip's ARCHITECTURE:TAG.")
    ],
    as_json: JsonOption = False,
    folder: _Folder = None,
) -> None:
    """Print all facts about one entry.

    Example: python -m monai_zsad weights info ViT-L-14-336:openai
    """
    from monai_zsad.backbones.weights import get_entry

    facts = _facts(get_entry(name), folder)
    if as_json:
        print_json(facts)
    else:
        print_facts({key: _readable(key, value) for key, value in facts.items()})


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Default: all listed weights on this machine.")
    ] = None,
    folder: _Folder = None,
) -> None:
    """Compare files with their published hashes.

    The exit status is 1 if one differs or is missing.

    Example: python -m monai_zsad weights verify
    """
    from monai_zsad.backbones.weights import cached_path, get_entry, list_entries, sha256_of
    from monai_zsad.backbones.weights import fetch as fetch_weights
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
    from monai_zsad.backbones.weights import cached_path

    found = cached_path(entry, folder=folder)
    return asdict(entry) | {"cached": found is not None, "path": str(found) if found else None}


def _readable(key: str, value: Any) -> str:
    if key == "size":
        return file_size(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value))
    return "-" if value in (None, "") else str(value)

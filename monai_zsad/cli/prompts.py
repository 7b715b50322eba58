"""``monai-zsad prompts``: the known prompt sets, anatomies, modalities and states, and the prompts of a choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_zsad.cli.printing import JsonOption, print_json, print_table

if TYPE_CHECKING:
    from monai_zsad.prompts import PromptEnsemble

__all__ = ["app"]

# Longer lists would fill the table; `list --json` prints them.
_LISTED = 4

app = typer.Typer(help="Prompts: list the sets, show the prompts of a set.", no_args_is_help=True)


@app.command("list")
def list_prompts(as_json: JsonOption = False) -> None:
    """List the prompt sets, anatomies, modalities and states.

    `prompts show SET --yaml` prints a set as a file, to change it.

    Example: python -m monai_zsad prompts list
    """
    from monai_zsad.prompts import PromptEnsemble, anatomies, modalities, set_names, states

    sets = {name: PromptEnsemble.named(name) for name in set_names()}
    if as_json:
        content: dict[str, Any] = {
            "sets": {
                name: {
                    "description": ensemble.description,
                    "normal": len(ensemble.normal),
                    "abnormal": len(ensemble.abnormal),
                }
                for name, ensemble in sets.items()
            },
            "anatomies": {key: {"noun": word.noun, "aliases": word.aliases} for key, word in anatomies().items()},
            "modalities": {
                key: {"images": word.images, "anatomies": word.anatomies, "aliases": word.aliases}
                for key, word in modalities().items()
            },
            "states": {
                key: {
                    "normal": word.normal,
                    "abnormal": word.abnormal,
                    "anatomies": word.anatomies,
                    "modalities": word.modalities,
                }
                for key, word in states().items()
            },
        }
        print_json(content)
        return
    print_table(
        ("SET", "PROMPTS", "WHAT"),
        [(name, str(len(ensemble.sentences)), ensemble.description) for name, ensemble in sets.items()],
    )
    typer.echo()
    print_table(
        ("ANATOMY", "IN A PROMPT", "ALSO CALLED"),
        [(key, word.noun, ", ".join(word.aliases)) for key, word in anatomies().items()],
    )
    typer.echo()
    print_table(
        ("MODALITY", "IN A PROMPT", "ALSO CALLED"),
        [(key, ", ".join(word.images), ", ".join(word.aliases)) for key, word in modalities().items()],
    )
    typer.echo()
    print_table(
        ("STATE", "OF", "IN", "ABNORMAL"),
        [
            (key, _some(word.anatomies, "anatomies"), _some(word.modalities, "modalities"), ", ".join(word.abnormal))
            for key, word in states().items()
        ],
    )


@app.command()
def show(
    set_name: Annotated[
        str | None, typer.Argument(metavar="SET", help="Name of a set, as `prompts list` prints it; or give --file.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="YAML file with your own set.")] = None,
    anatomy: Annotated[str | None, typer.Option("--anatomy", metavar="NAME", help="Anatomy, such as brain.")] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", metavar="NAME", help="Modality, such as flair, or DICOM's CT.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NOUN", help="Noun that the states describe, instead of the set's own."),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="NAME",
            help="State instead of the set's own; `findings` means all states that match. Repeatable.",
        ),
    ] = None,
    as_json: JsonOption = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print the set as a YAML file, to change it.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=3,
            metavar="N",
            help="Longest prompt that the text tower takes, in tokens; 77 for CLIP.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print the prompts of a set with their number of tokens.

    The exit status is 1 if one is too long.

    Example: python -m monai_zsad prompts show medical --anatomy brain --modality FLAIR
    """
    from monai_zsad.prompts import PromptEnsemble

    if (set_name is None) == (file is None):
        raise typer.BadParameter("give either a SET or --file")
    if as_json and as_yaml:
        raise typer.BadParameter("give either --json or --yaml")
    chosen: Mapping[str, Any] = {"anatomy": anatomy, "modality": modality, "name": name, "states": state or None}
    ensemble = PromptEnsemble.from_yaml(file, **chosen) if file else PromptEnsemble.named(set_name or "", **chosen)
    if as_yaml:
        typer.echo(ensemble.to_yaml(), nl=False)
        return
    from monai_zsad.backbones.tokenizer import CONTEXT_LENGTH, count_tokens

    limit = CONTEXT_LENGTH if limit is None else limit
    counts = {prompt: count_tokens(prompt) for prompt in ensemble.sentences}
    if as_json:
        print_json(_facts(ensemble, counts, limit))
    else:
        _print_prompts(ensemble, counts, limit)
    ensemble.check_lengths(counts.__getitem__, limit)


def _facts(ensemble: PromptEnsemble, counts: Mapping[str, int], limit: int) -> dict[str, Any]:
    def lengths(prompts: Sequence[str]) -> list[dict[str, Any]]:
        return [{"text": prompt, "tokens": counts[prompt], "fits": counts[prompt] <= limit} for prompt in prompts]

    return {
        "set": ensemble.source,
        "description": ensemble.description,
        "name": ensemble.name,
        "limit": limit,
        "normal": lengths(ensemble.normal),
        "abnormal": lengths(ensemble.abnormal),
    }


def _print_prompts(ensemble: PromptEnsemble, counts: Mapping[str, int], limit: int) -> None:
    typer.echo(ensemble.describe())
    for kind, prompts in (("normal", ensemble.normal), ("abnormal", ensemble.abnormal)):
        typer.echo(f"\n{kind}:")
        for prompt in prompts:
            mark = "  TOO LONG" if counts[prompt] > limit else ""
            typer.echo(f"{counts[prompt]:>4}  {prompt}{mark}")
    typer.echo(f"\n{len(counts)} prompts; the longest has {max(counts.values())} tokens; at most {limit} are allowed")


def _some(keys: Sequence[str], kind: str) -> str:
    return ", ".join(keys) if 0 < len(keys) <= _LISTED else f"{len(keys) or 'all'} {kind}"

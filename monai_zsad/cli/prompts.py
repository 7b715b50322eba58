"""``monai-zsad prompts``: which words there are, and the sentences that a choice of them yields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from monai_zsad.prompts import PromptEnsemble

__all__ = ["app"]

# `list --json` has all of a longer list.
_LISTED = 4

app = typer.Typer(help="Prompts: list the words, show the sentences that a set yields.", no_args_is_help=True)


@app.command("list")
def list_prompts(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List sets, anatomies, modalities and states. A set's own file is written by `prompts show SET --yaml`.

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
        typer.echo(json.dumps(content, indent=2))
        return
    _table(
        ("SET", "SENTENCES", "WHAT"),
        [(name, str(len(ensemble.sentences)), ensemble.description) for name, ensemble in sets.items()],
    )
    typer.echo()
    _table(
        ("ANATOMY", "IN A SENTENCE", "ALSO CALLED"),
        [(key, word.noun, ", ".join(word.aliases)) for key, word in anatomies().items()],
    )
    typer.echo()
    _table(
        ("MODALITY", "IN A SENTENCE", "ALSO CALLED"),
        [(key, ", ".join(word.images), ", ".join(word.aliases)) for key, word in modalities().items()],
    )
    typer.echo()
    _table(
        ("STATE", "OF", "IN", "ABNORMAL"),
        [
            (key, _some(word.anatomies, "anatomies"), _some(word.modalities, "modalities"), ", ".join(word.abnormal))
            for key, word in states().items()
        ],
    )


@app.command()
def show(
    set_name: Annotated[
        str | None, typer.Argument(metavar="SET", help="A set as `prompts list` prints it; or give --file.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A set of your own, in YAML.")] = None,
    anatomy: Annotated[str | None, typer.Option("--anatomy", help="Such as brain.")] = None,
    modality: Annotated[str | None, typer.Option("--modality", help="Such as flair, or DICOM's CT.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the states are about, in the set's place.")] = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="A state in place of the set's; again for more; findings: all that fit."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print a YAML file to start an own set from.")] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=3, help="Tokens that fit the text tower; 77 for CLIP.", show_default=False),
    ] = None,
) -> None:
    """Print the sentences that a set yields, with their tokens; the exit status is 1 if one is too long.

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
    counts = {sentence: count_tokens(sentence) for sentence in ensemble.sentences}
    if as_json:
        typer.echo(json.dumps(_facts(ensemble, counts, limit), indent=2, ensure_ascii=False))
    else:
        _print(ensemble, counts, limit)
    ensemble.check_lengths(counts.__getitem__, limit)


def _facts(ensemble: PromptEnsemble, counts: Mapping[str, int], limit: int) -> dict[str, Any]:
    def told(sentences: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {"text": sentence, "tokens": counts[sentence], "fits": counts[sentence] <= limit} for sentence in sentences
        ]

    return {
        "set": ensemble.source,
        "description": ensemble.description,
        "name": ensemble.name,
        "limit": limit,
        "normal": told(ensemble.normal),
        "abnormal": told(ensemble.abnormal),
    }


def _print(ensemble: PromptEnsemble, counts: Mapping[str, int], limit: int) -> None:
    typer.echo(ensemble.describe())
    for kind, sentences in (("normal", ensemble.normal), ("abnormal", ensemble.abnormal)):
        typer.echo(f"\n{kind}:")
        for sentence in sentences:
            mark = "  TOO LONG" if counts[sentence] > limit else ""
            typer.echo(f"{counts[sentence]:>4}  {sentence}{mark}")
    typer.echo(f"\n{len(counts)} sentences; the longest has {max(counts.values())} tokens, {limit} fit")


def _some(keys: Sequence[str], kind: str) -> str:
    return ", ".join(keys) if 0 < len(keys) <= _LISTED else f"{len(keys) or 'all'} {kind}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [head, *rows]
    # The last column is as long as it is: only the others are padded.
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        typer.echo("  ".join([*cells, line[-1]]).rstrip())

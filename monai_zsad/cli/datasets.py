"""``monai-zsad datasets``: which benchmark sets are known, and whether a folder holds one completely."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_zsad.cli.prompts import _table

if TYPE_CHECKING:
    from monai_zsad.data.benchmarks import Benchmark, BenchmarkCheck

__all__ = ["app"]

_UNKNOWN = "not known"

app = typer.Typer(help="Benchmark sets: list, where to get them, check a folder.", no_args_is_help=True)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Name = Annotated[str, typer.Argument(help="A name as `datasets list` prints it.")]


@app.command("list")
def list_datasets(as_json: _Json = False) -> None:
    """List the known sets with the numbers of their test parts.

    Example: python -m monai_zsad datasets list
    """
    from monai_zsad.data.benchmarks import known_benchmarks

    entries = known_benchmarks().values()
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in entries], indent=2, ensure_ascii=False))
        return
    _table(
        ("NAME", "DOMAIN", "CLASSES", "NORMAL", "ANOMALOUS", "MASKS", "LICENCE"),
        [
            (
                entry.name,
                entry.domain,
                str(len(entry.classes) or "-"),
                _shown(entry.normal),
                _shown(entry.abnormal),
                "yes" if entry.has_masks else "no",
                _shown(entry.licence),
            )
            for entry in entries
        ],
    )


@app.command()
def show(name: _Name, as_json: _Json = False) -> None:
    """Print all that is known about a set: where to get it, licence, layouts, numbers.

    Example: python -m monai_zsad datasets show mvtec-ad
    """
    from monai_zsad.data.benchmarks import get_benchmark

    entry = get_benchmark(name)
    if as_json:
        typer.echo(json.dumps(asdict(entry), indent=2, ensure_ascii=False))
        return
    facts = _facts(entry)
    width = max(map(len, facts))
    for key, value in facts.items():
        typer.echo(f"{key.ljust(width)}  {value}".rstrip())


@app.command()
def check(
    name: _Name,
    folder: Annotated[Path, typer.Argument(help="In which the set was unpacked; of volumes also a CSV file.")],
    layout: Annotated[str, typer.Option("--layout", help="Of the folder, as `datasets show` prints it.")] = "auto",
    part: Annotated[str, typer.Option("--part", help="Of the set; numbers are known of test only.")] = "test",
    quick: Annotated[bool, typer.Option("--quick", help="Look for the files, but do not read them.")] = False,
    as_json: _Json = False,
) -> None:
    """Say what is missing, unreadable or does not fit; the exit status is 1 if anything is.

    Example: python -m monai_zsad datasets check mvtec-ad FOLDER --quick
    """
    from monai_zsad.data.benchmarks import check_benchmark

    result = check_benchmark(name, folder, layout=layout, part=part, read=not quick)
    if as_json:
        typer.echo(json.dumps(result.as_dict(), indent=2, ensure_ascii=False))
    else:
        _print(result)
    if result.problems:
        raise typer.Exit(1)


def _facts(entry: Benchmark) -> dict[str, str]:
    from monai_zsad.data.benchmarks.layouts import KNOWN_LAYOUTS

    files = [f"{key}: {KNOWN_LAYOUTS[key].files}" for key in entry.readable]
    return {
        "name": entry.name,
        "title": entry.title,
        "domain": entry.domain,
        "where to get it": _shown(entry.homepage),
        "licence": _shown(entry.licence),
        "citation": _shown(entry.citation),
        "test images": f"{_shown(entry.images)} ({_shown(entry.normal)} normal, {_shown(entry.abnormal)} anomalous)",
        "masks": "yes" if entry.has_masks else "no",
        "classes": ", ".join(entry.classes) or "-",
        "in prompts": ", ".join(entry.prompt_name(key) for key in entry.classes) or "-",
        "notes": entry.notes or "-",
        **{f"layout {number}": text for number, text in enumerate(files, start=1)},
        "read in": " ".join(entry.sources) or "-",
    }


def _print(result: BenchmarkCheck) -> None:
    typer.echo(f"{result.benchmark.title} in {result.folder}: layout {result.layout}, part {result.part}\n")
    rows = [(key, str(normal), str(abnormal)) for key, (normal, abnormal) in result.counts.items()]
    normal, abnormal, _ = result.found
    rows.append(("found", str(normal), str(abnormal)))
    rows.append(("expected", _shown(result.expected[0]), _shown(result.expected[1])))
    _table(("CLASS", "NORMAL", "ANOMALOUS"), rows)
    typer.echo()
    for sentence in result.problems:
        typer.echo(f"PROBLEM  {sentence}")
    if not result.problems:
        known = result.expected[2] is not None
        typer.echo("complete" if known else "nothing is amiss; how many images there should be is not known")


def _shown(value: Any) -> str:
    return _UNKNOWN if value is None else str(value)

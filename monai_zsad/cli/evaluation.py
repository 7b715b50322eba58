"""``monai-zsad datasets`` and ``score``: benchmark data sets, and the metrics of saved predictions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_zsad.cli.printing import JsonOption, print_facts, print_json, print_table

if TYPE_CHECKING:
    from monai_zsad.data.benchmarks import Benchmark, BenchmarkCheck

__all__ = ["app", "score"]

_UNKNOWN = "not known"

app = typer.Typer(help="Benchmark data sets: list, show, check a folder.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a data set, as `datasets list` prints it.")]


@app.command("list")
def list_datasets(as_json: JsonOption = False) -> None:
    """List the known data sets, with the numbers of their test images.

    Example: python -m monai_zsad datasets list
    """
    from monai_zsad.data.benchmarks import known_benchmarks

    entries = known_benchmarks().values()
    if as_json:
        print_json([asdict(entry) for entry in entries])
        return
    print_table(
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
def show(name: _Name, as_json: JsonOption = False) -> None:
    """Print where to get a data set, its licence, and its folder layouts.

    Example: python -m monai_zsad datasets show mvtec-ad
    """
    from monai_zsad.data.benchmarks import get_benchmark

    entry = get_benchmark(name)
    if as_json:
        print_json(asdict(entry))
    else:
        print_facts(_facts(entry))


@app.command()
def check(
    name: _Name,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the unpacked data set; for volumes also a CSV file.")
    ],
    layout: Annotated[
        str, typer.Option("--layout", metavar="NAME", help="Layout of the folder, as `datasets show` prints it.")
    ] = "auto",
    part: Annotated[
        str,
        typer.Option("--part", metavar="NAME", help="Part of the data set. Expected numbers are known for test only."),
    ] = "test",
    quick: Annotated[bool, typer.Option("--quick", help="Look for the files, but do not read them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Report files of a data set that are missing, damaged or do not match.

    The exit status is then 1.

    Example: python -m monai_zsad datasets check mvtec-ad FOLDER --quick
    """
    from monai_zsad.data.benchmarks import check_benchmark

    result = check_benchmark(name, folder, layout=layout, part=part, read=not quick)
    if as_json:
        print_json(result.as_dict())
    else:
        _print_check(result)
    if result.problems:
        raise typer.Exit(1)


def score(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Output folder of a bundle's evaluate.yaml.")],
    bootstrap: Annotated[
        int, typer.Option(metavar="N", help="Resamples for the 95 % intervals; 0 for no intervals.")
    ] = 200,
    min_lesion: Annotated[int, typer.Option(metavar="N", help="For volumes: voxels of the smallest lesion.")] = 3,
    min_voxels: Annotated[int, typer.Option(metavar="N", help="For volumes: voxels of the smallest candidate.")] = 10,
    min_overlap: Annotated[
        float, typer.Option(metavar="SHARE", help="For volumes: the share of a candidate that must lie in lesions.")
    ] = 0.1,
    limit: Annotated[
        float, typer.Option(metavar="RATE", help="AUPRO is integrated up to this false-positive rate.")
    ] = 0.3,
    partial: Annotated[bool, typer.Option("--partial", help="Leave out cases without a prediction.")] = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write index.html with curves and images.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Compute the metrics of an evaluation again, without the network.

    The new table, curves and page replace those in the folder.

    Example: python -m monai_zsad score RESULTS --bootstrap 1000
    """
    from monai_zsad.evaluation.scoring import score_run

    table = score_run(
        results,
        partial=partial,
        page=page,
        bootstrap=bootstrap,
        min_lesion=min_lesion,
        min_voxels=min_voxels,
        min_overlap=min_overlap,
        limit=limit,
    )
    typer.echo(table.as_json() if as_json else table.markdown, nl=False)


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


def _print_check(result: BenchmarkCheck) -> None:
    typer.echo(f"{result.benchmark.title} in {result.folder}: layout {result.layout}, part {result.part}\n")
    rows = [(key, str(normal), str(abnormal)) for key, (normal, abnormal) in result.counts.items()]
    normal, abnormal, _ = result.found
    rows.append(("found", str(normal), str(abnormal)))
    rows.append(("expected", _shown(result.expected[0]), _shown(result.expected[1])))
    print_table(("CLASS", "NORMAL", "ANOMALOUS"), rows)
    typer.echo()
    for sentence in result.problems:
        typer.echo(f"PROBLEM  {sentence}")
    if not result.problems:
        known = result.expected[2] is not None
        typer.echo("complete" if known else "no problem found; the expected number of images is not known")


def _shown(value: Any) -> str:
    return _UNKNOWN if value is None else str(value)

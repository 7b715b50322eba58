"""``monai-zsad compare``: the maps of several bundles on one scan, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.options.command_line import read_settings, weights_setting

__all__ = ["compare"]


def compare(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="Volume file, or folder with one DICOM series.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", "--output_dir", metavar="FOLDER", help="Folder for the figures and comparison.json."
        ),
    ],
    bundle: Annotated[
        list[str],
        typer.Option(
            "--bundle",
            "-b",
            metavar="[LABEL=]BUNDLE",
            help="A name of `bundle list` or a folder, with a label if you like. Repeat.",
        ),
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            "-w",
            metavar="[LABEL:]PART=SOURCE",
            help="Weights of a part, for all bundles or for one: a name of `weights list`, a file, or seed:N (random).",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="[LABEL:]KEY=VALUE",
            help="Option of inference.yaml, for every bundle that has it or for one, such as window=brain.",
        ),
    ] = None,
    count: Annotated[
        int,
        typer.Option("--slices", min=1, metavar="N", help="Number of slices to draw, the most suspicious ones first."),
    ] = 3,
    only: Annotated[
        list[int] | None,
        typer.Option(
            "--slice",
            min=0,
            metavar="N",
            help="Compute and draw only this slice, counted from 0 as in the file. Repeatable.",
        ),
    ] = None,
    limits: Annotated[
        tuple[float, float],
        typer.Option(metavar="LOW HIGH", help="Map values where the colours begin and end, the same for all methods."),
    ] = (0.0, 1.0),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier comparison of this scan.")] = False,
) -> None:
    """Draw the maps of several bundles on one scan side by side.

    There is one figure for each slice. Methods with the same CLIP share one pass through it. The figures, and a JSON
    file with scores, weights and versions, are written to OUTPUT/<case>/.

    Example: python -m monai_zsad compare scan.nii.gz -o OUT -b crane -b anomalyclip
    """
    # Wrong arguments are reported at once: importing torch takes seconds.
    folders = _folders(bundle)
    general, own = read_settings([*map(weights_setting, weights or []), *(setting or [])], list(folders))
    if not limits[0] < limits[1]:
        raise typer.BadParameter(f"{limits[0]} {limits[1]}: give the smaller value first", param_hint="--limits")

    from monai_zsad.evaluation.comparison.bundles import ComparedBundles, one_scan
    from monai_zsad.evaluation.comparison.methods import check_comparison_output
    from monai_zsad.networks import SharedNetworks

    record = one_scan(scan)
    check_comparison_output(output, record["case"], overwrite=overwrite)
    bundles = ComparedBundles(folders, general, own)
    for name, network in bundles.load().items():
        for part, weights_record in network.records.items():
            typer.echo(f"{name}: {part} weights: {weights_record.summary()}")
    for group in SharedNetworks(bundles.networks).groups:
        typer.echo(f"{', '.join(group)}: {'one pass' if len(group) > 1 else 'its own pass'} through CLIP")
    comparison = bundles.run(record, only)
    files = comparison.save(output, count, limits=limits, overwrite=overwrite)
    typer.echo(f"\n{comparison.table(comparison.chosen(count))}\n")
    for file in files:
        typer.echo(str(file))
    if comparison.seeded:
        typer.echo(
            f"\n*** {' AND '.join(comparison.seeded).upper()}: RANDOM WEIGHTS FROM A SEED. THESE MAPS AND SCORES MEAN "
            "NOTHING. ***",
            err=True,
        )


def _folders(bundles: Sequence[str]) -> dict[str, Path]:
    """Folders of the bundles by their labels."""
    from monai_zsad.workflow.bundles import find_bundle

    found: dict[str, Path] = {}
    for text in bundles:
        name, equals, folder = text.partition("=")
        if not equals or Path(text).is_dir():
            name, folder = Path(text).resolve().name, text
        if not name or ":" in name:
            raise ConfigurationError(f"--bundle {text}: the label {name!r} is empty or has a colon; give LABEL=BUNDLE")
        if name in found:
            raise ConfigurationError(f"--bundle {text}: another bundle is called {name}; give LABEL={folder}")
        found[name] = find_bundle(folder)
    return found

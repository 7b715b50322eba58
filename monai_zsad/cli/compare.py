"""``monai-zsad compare``: the maps of several bundles on one scan, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.settings import read_settings, weights_setting

__all__ = ["compare"]


def compare(
    scan: Annotated[Path, typer.Argument(help="A volume file, or a folder with one DICOM series.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", "--output_dir", help="Folder for pictures and comparison.json.")
    ],
    bundle: Annotated[
        list[str],
        typer.Option("--bundle", "-b", metavar="[NAME=]FOLDER", help="A bundle, perhaps under another name. Repeat."),
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            "-w",
            metavar="[NAME:]PART=SOURCE",
            help="Weights of a part, of all bundles or one: a name of `weights list`, a file, or seed:N (random).",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="[NAME:]KEY=VALUE",
            help="A value of inference.yaml, in every bundle that has the key or in one, such as window=brain.",
        ),
    ] = None,
    count: Annotated[int, typer.Option("--slices", min=1, help="Draw so many of the most suspicious slices.")] = 3,
    only: Annotated[
        list[int] | None,
        typer.Option("--slice", min=0, help="Run and draw this slice alone, numbered as in the file. Repeat."),
    ] = None,
    limits: Annotated[
        tuple[float, float], typer.Option(help="Map values where the colours begin and end, for all methods.")
    ] = (0.0, 1.0),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier comparison of the scan.")] = False,
) -> None:
    """Run several bundles on one scan and draw their maps side by side, one picture per slice.

    Methods that use the same CLIP share one pass through it. Pictures, and a JSON with scores, weights and versions,
    are written to OUTPUT/<case>/.

    Example: python -m monai_zsad compare scan.nii.gz -o OUT -b crane -b anomalyclip
    """
    # Arguments are looked at before torch is imported.
    folders = _folders(bundle)
    general, own = read_settings([*map(weights_setting, weights or []), *(setting or [])], list(folders))
    if not limits[0] < limits[1]:
        raise typer.BadParameter(f"{limits[0]} {limits[1]}: the smaller value comes first", param_hint="--limits")

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
        typer.echo(f"{', '.join(group)}: {'one pass through CLIP for all' if len(group) > 1 else 'by itself'}")
    comparison = bundles.run(record, only)
    files = comparison.save(output, count, limits=limits, overwrite=overwrite)
    typer.echo(f"\n{comparison.table(comparison.chosen(count))}\n")
    for file in files:
        typer.echo(str(file))
    if comparison.seeded:
        typer.echo(
            f"\n*** {' AND '.join(comparison.seeded).upper()}: SEEDED RANDOM WEIGHTS. THESE MAPS AND SCORES MEAN "
            "NOTHING. ***",
            err=True,
        )


def _folders(bundles: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in bundles:
        name, equals, folder = text.partition("=")
        if not equals or Path(text).is_dir():
            name, folder = Path(text).resolve().name, text
        if not name or ":" in name:
            raise ConfigurationError(f"--bundle {text}: the name {name!r} cannot be used; give NAME=FOLDER, no colon")
        if name in found:
            raise ConfigurationError(f"--bundle {text}: {name} is there twice; give one another name: NAME={folder}")
        found[name] = Path(folder)
    return found

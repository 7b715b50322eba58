"""``monai-zsad info``, ``calibrate`` and ``report``: what lies in a folder of scans, and what a run has left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_zsad.errors import ConfigurationError, OutputError

__all__ = ["calibrate", "info", "report"]


def info(
    path: Annotated[
        str,
        typer.Argument(help="A volume file, a folder of any nesting, a zip, a CSV or JSON list, or a DICOMweb query."),
    ],
    series: Annotated[
        str | None, typer.Option(help="Choose DICOM series: UID, number, modality, or part of the description.")
    ] = None,
) -> None:
    """List what lies at a path: each series with modality, size and spacing, and why one is left out.

    Descriptions are those of the files and may name a patient; `screen` writes none of them.

    Example: python -m monai_zsad info SCANS --series FLAIR
    """
    from monai_zsad.data import find_studies

    found = find_studies(path, series)
    for one in found:
        size = " x ".join(str(n) for n in one.shape) or "size unknown"
        spacing = " x ".join(f"{mm:.3g}" for mm in one.spacing_mm)
        number = "" if one.number is None else f"series {one.number}"
        facts = [number, one.modality, one.body_part, one.description, one.plane, size, spacing and f"{spacing} mm"]
        typer.echo(f"{one.path}: " + ", ".join(fact for fact in facts if fact))
        if one.files > 1:
            typer.echo(f"   {one.files} files, UID {one.uid}")
        if one.skipped:
            typer.echo(f"   left out: {one.skipped}")
        for warning in one.warnings:
            typer.echo(f"   warning: {warning}")
    usable = sum(not one.skipped for one in found)
    typer.echo(f"{usable} of {len(found)} can be screened")


def calibrate(
    results: Annotated[Path, typer.Argument(help="Output folder of `screen` over scans that are taken as normal.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, such as normal.json.")],
    bundle: Annotated[str | None, typer.Option(help="Name of the bundle that made them, for the reader.")] = None,
    alpha: Annotated[
        list[float] | None, typer.Option(help="Print the threshold of this false-positive rate per scan. Repeat.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Make a calibration from scans taken as normal: with it `screen --calibration` gives p-values.

    A p-value of 0.05 or less comes up in at most one of 20 normal scans of the same kind (split conformal). Screen the
    reference scans first, as the others will be, with a low --threshold, so that their candidates are all there.

    Example: python -m monai_zsad calibrate RESULTS -o normal.json --alpha 0.05
    """
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists: add --overwrite to replace it, or give another --output")

    from monai_zsad.workflow.calibration import collect

    made = collect(results, bundle)
    wanted = [(rate, made.threshold(rate)) for rate in alpha or []]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output.parent}: cannot be made ({error.strerror}); give another --output") from error
    made.save(output)
    typer.echo(f"{made.n} reference scans, smallest p-value {1 / (made.n + 1):.3g}: {output}")
    for rate, threshold in wanted:
        above = "any candidate" if threshold == -float("inf") else f"a candidate with a peak above {threshold:.4f}"
        typer.echo(f"at most {rate:g} of normal scans have {above}")


def report(
    results: Annotated[Path, typer.Argument(help="Output folder of `screen`.")],
    title: Annotated[str, typer.Option(help="Of the page.")] = "Anomaly screening",
) -> None:
    """Write index.html anew: all cases of a results folder, most suspicious first, with links to their reports.

    Example: python -m monai_zsad report RESULTS --title "Night list"
    """
    from monai_zsad.writers import write_index

    if not title.strip():
        raise ConfigurationError("--title is empty: give a text")
    typer.echo(str(write_index(results, title)))

"""``monai-zsad convert``: all weights of a bundle as one file, ``models/model.pt``."""

from __future__ import annotations

import shlex
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from monai_zsad.errors import ConfigurationError

__all__ = ["convert"]


class _Activation(str, Enum):
    quick_gelu = "quick_gelu"
    gelu = "gelu"


_SOURCE = "a name of `weights list`, a file, or seed:N (random)"


def convert(
    bundle: Annotated[str, typer.Argument(help="A bundle's folder or name.")],
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", "-w", metavar="PART=SOURCE", help=f"Source of a part: {_SOURCE}. Repeatable."),
    ] = None,
    clip: Annotated[str | None, typer.Option(metavar="SOURCE", help="Short for --weights clip=SOURCE.")] = None,
    prompts: Annotated[str | None, typer.Option(metavar="SOURCE", help="Short for --weights prompts=SOURCE.")] = None,
    prior: Annotated[str | None, typer.Option(metavar="SOURCE", help="Short for --weights prior=SOURCE.")] = None,
    activation: Annotated[
        _Activation | None, typer.Option(help="What a CLIP file was trained with, where it does not tell.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default models/model.pt of the bundle.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write all weights of a bundle's network into its models/model.pt.

    MONAI Label and other programs that load a bundle from one file need it; a run of the bundle then takes it too.
    Parts that are not given come from the bundle's released weights, downloaded if need be.

    Example: python -m monai_zsad convert bundles/crane --weights clip=ViT-L-14-336px.pt
    """
    # Arguments are looked at before torch is imported.
    sources = _sources(weights or [], clip=clip, prompts=prompts, prior=prior)

    from monai_zsad.workflow import bundles

    folder = bundles.find_bundle(bundle)
    file = bundles.convert(
        folder, sources, output, activation=activation.value if activation else None, overwrite=overwrite
    )
    records = bundles.read_records(file)
    typer.echo(f"wrote {file} ({_size(file.stat().st_size)})")
    for part, record in records.items():
        typer.echo(f"  {part}: {record.summary()}")
    if any(record.meaningless for record in records.values()):
        typer.echo("Some weights are random: this file is for trying the pipeline, its results mean nothing.", err=True)
    config = folder / "configs" / "inference.yaml"
    command = ["python", "-m", "monai.bundle", "run", "--config_file", str(config), "--bundle_root", str(folder)]
    if output is not None:
        command += ["--checkpoint", str(file)]
    typer.echo(f"run it:\n  {shlex.join(command)} --dataset_dir SCANS --output_dir RESULTS")


def _sources(pairs: list[str], **short: str | None) -> dict[str, str]:
    """Sources by part, of ``PART=SOURCE`` and of the short options."""
    given = [(f"--{part}", part, source) for part, source in short.items() if source is not None]
    for pair in pairs:
        part, _, source = pair.partition("=")
        given.append((f"--weights {pair}", part, source))
    sources: dict[str, str] = {}
    for option, part, source in given:
        if not (part and source):
            raise ConfigurationError(f"{option}: give a part and a source, such as --weights clip=seed:0")
        if part in sources:
            raise ConfigurationError(f"{option}: the source of {part} is given twice")
        sources[part] = source
    return sources


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"

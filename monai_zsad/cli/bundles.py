"""``monai-zsad bundle``, ``convert``, ``export``: bundles, their weights as one file, their networks as files."""

from __future__ import annotations

import shlex
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from monai_zsad import bundles
from monai_zsad.cli.printing import file_size
from monai_zsad.errors import ConfigurationError

__all__ = ["app", "convert", "export"]

app = typer.Typer(help="Methods that come with the package: list, path, copy, update.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a bundle, as `bundle list` prints it.")]
_SOURCE = "a name of `weights list`, a file, or seed:N (random)"


class _Activation(str, Enum):
    quick_gelu = "quick_gelu"
    gelu = "gelu"


class _Format(str, Enum):
    pt2 = "pt2"
    onnx = "onnx"
    openvino = "openvino"
    torchscript = "torchscript"


_Bundle = Annotated[str, typer.Argument(metavar="BUNDLE", help="Folder or name of a bundle.")]
_Weights = Annotated[
    list[str] | None,
    typer.Option("--weights", "-w", metavar="PART=SOURCE", help=f"Source of a part: {_SOURCE}. Repeatable."),
]
_OfActivation = Annotated[
    _Activation | None,
    typer.Option(metavar="NAME", help="Activation function of a CLIP file, if the file does not name it."),
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]


@app.command("list")
def list_bundles() -> None:
    """List the names of the bundles, one per line.

    Example: python -m monai_zsad bundle list
    """
    for name in bundles.names():
        typer.echo(name)


@app.command("path")
def print_path(name: _Name) -> None:
    """Print the folder of a bundle.

    It is the value of --bundle_root for `python -m monai.bundle run`.

    Example: python -m monai_zsad bundle path crane
    """
    typer.echo(str(bundles.path(name)))


@app.command("copy")
def copy_bundle(
    name: _Name,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder for the copy, which keeps the name of the bundle.")
    ],
) -> None:
    """Copy a bundle, to change it, and print the folder of the copy.

    An existing copy is not replaced.

    Example: python -m monai_zsad bundle copy crane my_bundles
    """
    typer.echo(str(bundles.copy(name, folder)))


@app.command("update")
def update_bundles(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER", help="Folders of bundles.")],
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if a file would change.")] = False,
) -> None:
    """Update the part of inference.yaml that all bundles share.

    The part of the bundle itself, at the top of the file, is kept. Use it after an update of this package, or after a
    change of the table of options.

    Example: python -m monai_zsad bundle update my_bundles/crane
    """
    from monai_zsad.workflow.bundles.shared_part import update_bundle

    changed = [folder for folder in folders if update_bundle(folder, write=not check)]
    for folder in changed:
        typer.echo(f"{folder / 'configs' / 'inference.yaml'}: {'out of date' if check else 'updated'}")
    if check and changed:
        raise typer.Exit(1)


def convert(
    bundle: _Bundle,
    weights: _Weights = None,
    clip: Annotated[str | None, typer.Option(metavar="SOURCE", help="Short for --weights clip=SOURCE.")] = None,
    prompts: Annotated[str | None, typer.Option(metavar="SOURCE", help="Short for --weights prompts=SOURCE.")] = None,
    prior: Annotated[str | None, typer.Option(metavar="SOURCE", help="Short for --weights prior=SOURCE.")] = None,
    activation: _OfActivation = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="File to write. Default: models/model.pt of the bundle."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Where you will host the file: large_files.yml then names it alone."),
    ] = None,
    overwrite: _Overwrite = False,
) -> None:
    """Write all weights of a bundle into one file, models/model.pt.

    MONAI Label and other programs load a bundle from this one file. A run of the bundle then uses it too. Parts
    without a source get the released weights of the bundle, which are downloaded if necessary.

    Example: python -m monai_zsad convert bundles/crane --weights clip=ViT-L-14-336px.pt
    """
    # Wrong arguments are reported at once: importing torch takes seconds.
    sources = _sources(weights or [], clip=clip, prompts=prompts, prior=prior)
    if url is not None and output is not None:
        raise ConfigurationError("--url is for models/model.pt of the bundle: leave out --output")

    from monai_zsad.workflow import bundles as bundle_weights

    folder = bundle_weights.find_bundle(bundle)
    file = bundle_weights.convert(
        folder, sources, output, activation=activation.value if activation else None, overwrite=overwrite
    )
    records = bundle_weights.read_records(file)
    typer.echo(f"wrote {file} ({file_size(file.stat().st_size)})")
    for part, record in records.items():
        typer.echo(f"  {part}: {record.summary()}")
    if any(record.meaningless for record in records.values()):
        typer.echo("warning: some weights are random: use this file for tests only, its results mean nothing", err=True)
    if url is not None:
        typer.echo(f"wrote {bundle_weights.name_large_file(folder, url)}")
    config = folder / "configs" / "inference.yaml"
    command = ["python", "-m", "monai.bundle", "run", "--config_file", str(config), "--bundle_root", str(folder)]
    if output is not None:
        command += ["--checkpoint", str(file)]
    typer.echo(f"run it:\n  {shlex.join(command)} --dataset_dir SCANS --output_dir RESULTS")


def export(
    bundle: _Bundle,
    kind: Annotated[
        _Format, typer.Option("--format", "-f", metavar="FORMAT", help="pt2, onnx, openvino or torchscript.")
    ] = _Format.pt2,
    weights: _Weights = None,
    activation: _OfActivation = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="File to write. Default: models/model.* of the bundle."),
    ] = None,
    overwrite: _Overwrite = False,
) -> None:
    """Write the network of a bundle to a file that runs without this package.

    Weights and prompts are in the file. Its input is a batch of prepared slices (B, 3, S, S) in [0, 1]. The file is
    compared with the network before it is kept.

    Example: python -m monai_zsad export tiny_screening --format pt2 -o screening.pt2
    """
    sources = _sources(weights or [])

    from monai_zsad.workflow import bundles as bundle_files

    folder = bundle_files.find_bundle(bundle)
    file, difference = bundle_files.export(
        folder,
        kind.value,
        output,
        sources,
        activation=activation.value if activation else None,
        overwrite=overwrite,
    )
    typer.echo(f"wrote {file} ({file_size(file.stat().st_size)}); maps and scores differ by {difference:.1g} at most")


def _sources(pairs: list[str], **short: str | None) -> dict[str, str]:
    """Sources by part, from ``PART=SOURCE`` and from the short options."""
    given = [(f"--{part}", part, source) for part, source in short.items() if source is not None]
    for pair in pairs:
        part, _, source = pair.partition("=")
        given.append((f"--weights {pair}", part, source))
    sources: dict[str, str] = {}
    for option, part, source in given:
        if not (part and source):
            raise ConfigurationError(f"{option}: give a part and a source, such as --weights clip=seed:0")
        if part in sources:
            raise ConfigurationError(f"{option}: {part} has two sources; give one")
        sources[part] = source
    return sources

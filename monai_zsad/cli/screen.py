"""``monai-zsad screen``: a bundle's run on scans. Its options come from the table of options."""

from __future__ import annotations

import inspect
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.launching import plan_workers, prepare, run_bundle
from monai_zsad.workflow.options.command_line import read_settings, weights_setting
from monai_zsad.workflow.options.views import cli_parameters, given_options

__all__ = ["screen"]


def screen(
    scans: Annotated[
        str,
        typer.Argument(
            help="A volume file, a folder with a DICOM series, a folder with any of these at any depth, a zip, a CSV "
            "or JSON list, or a DICOMweb query such as https://HOST/dicom-web/series?Modality=MR&PatientID=7."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    bundle: Annotated[str, typer.Option("--bundle", "-b", help="A bundle's folder or name.")] = "tiny_screening",
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            "-w",
            metavar="PART=SOURCE",
            help="Weights of a part: a name of `weights list`, a file, or seed:N (random). Repeat.",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Any other value of inference.yaml. Repeat."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(help="What runs several workers: process (this machine) or ray.", rich_help_panel="Many scans"),
    ] = "process",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that share the cases, each with its model. Default: 1, with ray 2.",
            rich_help_panel="Many scans",
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="Address of an existing Ray cluster; without it, Ray is started here.", rich_help_panel="Many scans"
        ),
    ] = None,
    worker_gpus: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="GPUs that a worker asks Ray for. Default: 1 with --device cuda, else 0.",
            rich_help_panel="Many scans",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the bundle's command and end.")] = False,
    **options: Any,
) -> None:
    """Screen scans with a bundle: anomaly map, candidates, scores, preview and report for each scan.

    The same as `python -m monai.bundle run` with the bundle's inference.yaml; --dry-run prints that command. The exit
    status is 0; 1 if a scan or another input was refused or failed (the others are done) or nothing could be run; 2 for
    wrong usage. Localizers, masks and other inputs that are left out on purpose are listed and do not change it.

    Several runs may work in one folder at the same time, on any machines that share it: with --resume each takes cases
    that no other has. --workers starts several here, --engine ray on a cluster.

    Example: python -m monai_zsad screen SCANS -o RESULTS --anatomy brain --modality FLAIR --dicom seg,pm
    """
    named = given_options(options)
    given, _ = read_settings([*map(weights_setting, weights or []), *(setting or [])])
    if twice := sorted(named.keys() & given.keys()):
        raise ConfigurationError(f"--set {twice[0]}: this option has a name of its own, which was given, too")
    plan = plan_workers(engine, workers, ray_address, worker_gpus, named.get("device"), named.get("limit"))
    config, settings = prepare(scans, output, bundle, named | given)
    if dry_run:
        typer.echo(shlex.join(["python", "-m", "monai.bundle", "run", "--config_file", str(config), *_words(settings)]))
        return
    if not run_bundle(config, settings, plan):
        raise typer.Exit(1)


def _words(settings: dict[str, Any]) -> list[str]:
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


def _with_table(command: Any) -> None:
    """Give a command the options of the table in place of ``**options``; typer reads them from its signature."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
    every = [*own, *cli_parameters()]
    command.__signature__ = inspect.Signature(every)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in every}


_with_table(screen)

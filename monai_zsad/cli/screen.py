"""``monai-zsad screen``: a bundle's run on scans. Its options come from the table of options."""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.launching import plan_workers, prepare, run_bundle
from monai_zsad.workflow.options.command_line import read_settings, weights_setting
from monai_zsad.workflow.options.views import cli_parameters, given_options

if TYPE_CHECKING:
    from monai_zsad.workflow.console.quiet import Level

__all__ = ["screen"]


def screen(
    scans: Annotated[
        str,
        typer.Argument(
            metavar="SCANS",
            help="A volume file, a DICOM folder, a folder with many scans, a zip, a CSV or JSON list, or a DICOMweb "
            "query.",
            rich_help_panel="Basic",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the results.", rich_help_panel="Basic"),
    ],
    bundle: Annotated[
        str,
        typer.Option(
            "--bundle",
            "-b",
            metavar="NAME",
            help="Method: a name of `bundle list`, or a folder.",
            rich_help_panel="Basic",
        ),
    ] = "tiny_screening",
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            "-w",
            metavar="PART=SOURCE",
            help="Weights of a part: a name of `weights list`, a file, or seed:N (random). Repeat.",
            rich_help_panel="Advanced",
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="KEY=VALUE",
            help="Any other value of the bundle's inference.yaml. Repeat.",
            rich_help_panel="Advanced",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What runs several workers: process (this machine) or ray.",
            rich_help_panel="Many scans",
        ),
    ] = "process",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Processes that share the cases, each with its model. Default: 1, with ray 2.",
            rich_help_panel="Many scans",
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address of an existing Ray cluster; without it, Ray is started here.",
            rich_help_panel="Many scans",
        ),
    ] = None,
    worker_gpus: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="NUMBER",
            help="GPUs that a worker asks Ray for. Default: 1 with --device cuda, else 0.",
            rich_help_panel="Many scans",
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print failures and the summary only.", rich_help_panel="Basic")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print the log (RESULTS/run.log), too.", rich_help_panel="Basic")
    ] = False,
    log_json: Annotated[
        bool,
        typer.Option("--log-json", help="Print one JSON object per event, for programs.", rich_help_panel="Many scans"),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the command that does the same, and end.", rich_help_panel="Advanced"),
    ] = False,
    **options: Any,
) -> None:
    """Screen scans: anomaly map, candidates, score and report.

    The same as `python -m monai.bundle run` with the bundle's inference.yaml; --dry-run prints that command. The exit
    status is 0; 1 if a scan or another input was refused or failed (the others are done) or nothing could be run; 2 for
    wrong usage; 130 after Ctrl-C. Localizers, masks and other inputs that are left out on purpose are listed in
    status.csv and do not change it. Everything that the run says is in RESULTS/run.log.

    Several runs may work in one folder at the same time, on any machines that share it: with --resume each takes cases
    that no other has. --workers starts several here, --engine ray on a cluster.

    A DICOMweb query is an address such as https://HOST/dicom-web/series?Modality=MR&PatientID=7.

    Example: python -m monai_zsad screen SCANS -o RESULTS --anatomy brain
    """
    level = _level(quiet, verbose, log_json)
    named = given_options(options)
    given, _ = read_settings([*map(weights_setting, weights or []), *(setting or [])])
    if twice := sorted(named.keys() & given.keys()):
        raise ConfigurationError(f"--set {twice[0]}: this option has a name of its own, which was given, too")
    plan = plan_workers(engine, workers, ray_address, worker_gpus, named.get("device"), named.get("limit"))
    config, settings = prepare(scans, output, bundle, named | given)
    if dry_run:
        own = {"engine": engine, "workers": workers, "ray-address": ray_address, "worker-gpus": worker_gpus}
        typer.echo(shlex.join(_bundle_command(config, settings) if plan is None else _own_command(settings, own)))
        return
    from monai_zsad.workflow.console import quiet_console

    command = shlex.join(["monai-zsad", *sys.argv[1:]])
    console = quiet_console(level, progress=settings.get("progress") is not False, scans=scans, command=command)
    try:
        done = run_bundle(config, settings, plan, console)
    except KeyboardInterrupt:
        typer.echo(f"interrupted: results of finished scans are kept in {output}; --resume goes on", err=True)
        raise typer.Exit(130) from None
    if not done:
        raise typer.Exit(1)


def _level(quiet: bool, verbose: bool, log_json: bool) -> Level:
    given = {"--quiet": quiet, "--verbose": verbose, "--log-json": log_json}
    if len(chosen := [name for name, is_given in given.items() if is_given]) > 1:
        raise ConfigurationError(f"{' and '.join(chosen)} exclude each other: give one of them")
    levels: dict[str, Level] = {"--quiet": "quiet", "--verbose": "verbose", "--log-json": "json"}
    return levels[chosen[0]] if chosen else "normal"


def _bundle_command(config: Path, settings: Mapping[str, Any]) -> list[str]:
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    return ["python", "-m", "monai.bundle", "run", "--config_file", str(config), *words]


def _own_command(settings: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """The command with its workers, which MONAI's own command does not start."""
    named = {"dataset_dir", "output_dir", "bundle_root"}
    command = ["python", "-m", "monai_zsad", "screen", settings["dataset_dir"]]
    command += ["--output", settings["output_dir"], "--bundle", settings["bundle_root"]]
    for key, value in settings.items():
        if key not in named:
            command += ["--set", f"{key}={json.dumps(value)}"]
    return command + [word for key, value in own.items() if value is not None for word in (f"--{key}", str(value))]


def _with_table(command: Any) -> None:
    """Give a command the options of the table in place of ``**options``; typer reads them from its signature."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
    every = [*own, *cli_parameters()]
    command.__signature__ = inspect.Signature(every)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in every}


_with_table(screen)

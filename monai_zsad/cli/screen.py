"""``monai-zsad screen``: a bundle's run on scans, with the options that are needed most by name."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from monai_zsad.errors import ConfigurationError
from monai_zsad.workflow.screen_run import by_id, choose_crew, prepare, run_bundle
from monai_zsad.workflow.settings import read_settings, weights_setting

__all__ = ["screen"]


def screen(
    scans: Annotated[
        str,
        typer.Argument(
            help="A volume file, a folder with a DICOM series, a folder of any nesting of such, a zip, a CSV or JSON "
            "list, or a DICOMweb query such as https://HOST/dicom-web/series?Modality=MR&PatientID=7."
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
    prompts: Annotated[
        str | None, typer.Option(help="Words to look for: a set of `prompts list`, or your own .yaml.")
    ] = None,
    anatomy: Annotated[str | None, typer.Option(help="What the scan shows, such as brain.")] = None,
    modality: Annotated[str | None, typer.Option(help="How it was made, such as FLAIR.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="A finding to look for, such as hemorrhage. Repeat.")] = None,
    plane: Annotated[str | None, typer.Option(help="axial, coronal, sagittal or acquisition.")] = None,
    window: Annotated[
        str | None,
        typer.Option(help="auto, percentile, a CT window's name, or level and width such as '[40, 80]'."),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Candidates hold a value of the map above it.")] = None,
    dicom: Annotated[
        str | None,
        typer.Option(help="DICOM objects to write, of DICOM scans: any of seg,pm,sr,sc.", metavar="seg,pm,sr"),
    ] = None,
    calibration: Annotated[Path | None, typer.Option(help="File of `calibrate`: adds p-values.")] = None,
    case_names: Annotated[
        str | None,
        typer.Option(help="auto (DICOM: a salted hash, other formats: the file's name), files, hash, or uid."),
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Only this DICOM series: UID, number, modality, or part of the description.")
    ] = None,
    repair: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FAULT",
            help="Mend this fault of DICOM series instead of refusing them: missing-slices, uneven-slices, "
            "duplicate-slices or tilted-gantry. Repeat.",
        ),
    ] = None,
    download: Annotated[Path | None, typer.Option(help="Folder that keeps what a DICOMweb query retrieves.")] = None,
    case_key: Annotated[Path | None, typer.Option(help="CSV file to write: which case is which scan.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...")] = None,
    runtime: Annotated[
        str | None, typer.Option(help="What computes the network: torch, or on CPUs onnx or openvino.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Any other value of inference.yaml. Repeat."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of the same cases.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Leave out cases that are complete already.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Resume, but run only cases that were refused or failed.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Run at most so many cases.")] = None,
    order: Annotated[str | None, typer.Option(help="Of the cases: path, random, or size (largest first).")] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print where the time goes, for each study and in all.")
    ] = False,
    engine: Annotated[str, typer.Option(help="What runs several workers: process (this machine) or ray.")] = "process",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that share the cases, each with its model. Default: 1, with ray 2."),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Of an existing Ray cluster; without it, Ray is started here.")
    ] = None,
    worker_gpus: Annotated[
        float | None,
        typer.Option(min=0, help="GPUs that a worker asks Ray for. Default: 1 with --device cuda, else 0."),
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show progress bars, of slices and of studies.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the bundle's command and end.")] = False,
) -> None:
    """Screen scans with a bundle: anomaly map, candidates, scores, picture and report for each.

    The same as `python -m monai.bundle run` with the bundle's inference.yaml; --dry-run prints that command. The exit
    status is 0, 1 if a scan failed (the others are done) or nothing could be run, 2 for wrong usage.

    Several runs may work in one folder at once, on any machines that share it: with --resume each takes cases that no
    other has. --workers starts several here, --engine ray on a cluster.

    Example: python -m monai_zsad screen SCANS -o RESULTS --anatomy brain --modality FLAIR --dicom seg,pm
    """
    words = {"prompts": prompts, "anatomy": anatomy, "modality": modality, "state": state, "plane": plane}
    more = {"threshold": threshold, "calibration": calibration and str(calibration)}
    more |= {"device": device, "runtime": runtime}
    cases = {"case_names": case_names, "case_key": case_key and str(case_key), "series": series}
    which = {"download": download and str(download), "limit": limit, "order": order}
    named = by_id({**words, **more, **cases, **which})
    if window is not None:
        named |= read_settings([f"window={window}"])[0]
    if dicom is not None:
        named["dicom"] = [kind.strip() for kind in dicom.split(",") if kind.strip()]
    if repair:
        named["repair"] = list(repair)
    flags = {"overwrite": overwrite, "resume": resume, "retry_failed": retry_failed, "profile": profile}
    named |= {key: True for key, wanted in flags.items() if wanted}
    crew = choose_crew(engine, workers, ray_address, worker_gpus, device, limit)
    if not progress:
        named["progress"] = False
    given, _ = read_settings([*map(weights_setting, weights or []), *(setting or [])])
    if twice := sorted(named.keys() & given.keys()):
        raise ConfigurationError(f"--set {twice[0]}: has an option of its own and was given there, too")
    config, settings = prepare(scans, output, bundle, named | given)
    if dry_run:
        typer.echo(shlex.join(["python", "-m", "monai.bundle", "run", "--config_file", str(config), *_words(settings)]))
        return
    if not run_bundle(config, settings, crew):
        raise typer.Exit(1)


def _words(settings: dict[str, Any]) -> list[str]:
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]

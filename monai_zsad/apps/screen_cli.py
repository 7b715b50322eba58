"""``monai-zsad screen``: a bundle's run on scans, with the options that are needed most by name."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monai_zsad.apps.settings import read_settings, weights_setting
from monai_zsad.errors import ConfigurationError

if TYPE_CHECKING:
    from monai_zsad.apps.cohort.crew import Crew

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
    prompts: Annotated[str | None, typer.Option(help="Words to look for: a set of `prompts list`.")] = None,
    anatomy: Annotated[str | None, typer.Option(help="What the scan shows, such as brain.")] = None,
    modality: Annotated[str | None, typer.Option(help="How it was made, such as FLAIR.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="A finding to look for, such as hemorrhage. Repeat.")] = None,
    plane: Annotated[str | None, typer.Option(help="axial, coronal, sagittal or acquisition.")] = None,
    window: Annotated[
        str | None, typer.Option(help='auto, percentile, a CT window\'s name, or "[level, width]".')
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
    """
    words = {"prompt_set": prompts, "anatomy": anatomy, "modality": modality, "states": state, "plane": plane}
    more = {"candidate_threshold": threshold, "calibration": calibration and str(calibration), "device": device}
    cases = {"case_names": case_names, "case_key": case_key and str(case_key)}
    cases |= {"series": series, "download_dir": download and str(download)}
    named: dict[str, Any] = {key: value for key, value in (words | more | cases).items() if value is not None}
    if window is not None:
        named |= read_settings([f"window={window}"])[0]
    if dicom is not None:
        named["dicom"] = [kind.strip() for kind in dicom.split(",") if kind.strip()]
    if repair:
        named["repair"] = list(repair)
    flags = {"overwrite": overwrite, "resume": resume, "retry_failed": retry_failed, "profile": profile}
    named |= {key: True for key, wanted in flags.items() if wanted}
    named |= {key: value for key, value in (("limit", limit), ("order", order)) if value is not None}
    crew = _crew(engine, workers, ray_address, worker_gpus, device)
    if crew is not None and limit is not None:
        raise ConfigurationError("--limit counts the cases of one process: leave out --workers and --engine ray")
    if not progress:
        named["progress"] = False
    given, _ = read_settings([*map(weights_setting, weights or []), *(setting or [])])
    if twice := sorted(named.keys() & given.keys()):
        raise ConfigurationError(f"--set {twice[0]}: has an option of its own and was given there, too")
    settings = named | given | {"dataset_dir": scans, "output_dir": str(output)}

    from monai_zsad.apps.bundles import find_bundle
    from monai_zsad.apps.options import check_settings

    folder = find_bundle(bundle)
    config = folder / "configs" / "inference.yaml"
    check_settings(settings, [config])
    settings["bundle_root"] = str(folder)
    if dry_run:
        typer.echo(shlex.join(["python", "-m", "monai.bundle", "run", "--config_file", str(config), *_words(settings)]))
        return
    if crew is not None:
        _lead(*crew, str(config), settings)
        return

    from monai.bundle import run

    from monai_zsad.data import find_user_error

    try:
        run(config_file=str(config), **settings)
    except RuntimeError as error:
        # What a config item raises reaches here inside of MONAI's own error.
        if found := find_user_error(error):
            raise found from error
        raise


def _crew(
    engine: str, workers: int | None, address: str | None, gpus: float | None, device: str | None
) -> tuple[Callable[[], Crew], int] | None:
    """What starts the workers, and how many; None where this process does all by itself."""
    if engine not in ("process", "ray"):
        raise ConfigurationError(f"--engine {engine}: choose process or ray")
    if engine == "ray":
        count = workers or 2
        share = gpus if gpus is not None else float(str(device).startswith("cuda"))

        def start_ray() -> Crew:
            from monai_zsad.apps.cohort.ray_engine import RayActors

            return RayActors(count, address, share)

        return start_ray, count
    if address is not None or gpus is not None:
        raise ConfigurationError("--ray-address and --worker-gpus are for --engine ray")
    if workers in (None, 1):
        return None

    def start_processes() -> Crew:
        from monai_zsad.apps.cohort.processes import Processes

        return Processes(workers)

    return start_processes, workers


def _lead(start: Callable[[], Crew], workers: int, config: str, settings: dict[str, Any]) -> None:
    from monai_zsad.apps.bundles import read_bundle
    from monai_zsad.apps.cohort.crew import absolute, lead
    from monai_zsad.apps.screening import check_output

    own = absolute(settings)

    def find() -> list[dict[str, Any]]:
        """The cases of the run, as its configuration finds them."""
        parser = read_bundle(own["bundle_root"], own)
        cases = parser.get_parsed_content("datalist")
        check_output(
            own["output_dir"], cases, *(own.get(key, False) for key in ("overwrite", "resume", "retry_failed"))
        )
        return list(cases)

    try:
        all_done = lead(start, workers, str(Path(config).absolute()), own, find)
    except RuntimeError as error:
        from monai_zsad.data import find_user_error

        if found := find_user_error(error):
            raise found from error
        raise
    if not all_done:
        raise typer.Exit(1)


def _words(settings: dict[str, Any]) -> list[str]:
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]

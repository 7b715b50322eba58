"""How ``screen`` runs a bundle: its options as ids, the workers, and errors of the user as they were raised."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_zsad.errors import ConfigurationError

if TYPE_CHECKING:
    from monai_zsad.distributed.launcher import Crew

__all__ = ["by_id", "choose_crew", "prepare", "run_bundle"]

_IDS = {"prompts": "prompt_set", "state": "states", "threshold": "candidate_threshold", "download": "download_dir"}


def by_id(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of :func:`monai_zsad.workflow.screen` by the ids of ``inference.yaml``; those that are None are left out.

    Args:
        options: by id, or by the command line's name.

    Returns:
        Values by id.

    Raises:
        ConfigurationError: if one is given by both names.

    Example:
        >>> by_id({"threshold": 0.4, "state": "edema", "plane": None})
        {'candidate_threshold': 0.4, 'states': ['edema']}
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        key = _IDS.get(name, name)
        if key in found:
            raise ConfigurationError(f"{name} and {key} are the same option: give one of them")
        found[key] = [value] if name == "state" and isinstance(value, str) else value
    return found


def choose_crew(
    engine: str,
    workers: int | None,
    ray_address: str | None,
    worker_gpus: float | None,
    device: str | None = None,
    limit: int | None = None,
) -> tuple[Callable[[], Crew], int] | None:
    """The workers of a run.

    Args:
        engine: ``"process"`` or ``"ray"``.
        workers: how many; None: this process alone, with Ray 2.
        ray_address: of an existing Ray cluster; None starts Ray here.
        worker_gpus: GPUs that a worker asks Ray for; None: 1 with ``device="cuda"``, else 0.
        device: of the run.
        limit: of the run's cases, which workers cannot keep.

    Returns:
        What starts them, and how many; None where this process does all by itself.

    Raises:
        ConfigurationError: if the options contradict each other.

    Example:
        >>> choose_crew("process", 1, None, None) is None
        True
    """
    chosen = _crew(engine, workers, ray_address, worker_gpus, device)
    if chosen is not None and limit is not None:
        raise ConfigurationError("--limit counts the cases of one process: leave out --workers and --engine ray")
    return chosen


def _crew(
    engine: str, workers: int | None, address: str | None, gpus: float | None, device: str | None
) -> tuple[Callable[[], Crew], int] | None:
    if engine not in ("process", "ray"):
        raise ConfigurationError(f"--engine {engine}: choose process or ray")
    if engine == "ray":
        count = workers or 2
        share = gpus if gpus is not None else float(str(device).startswith("cuda"))

        def start_ray() -> Crew:
            from monai_zsad.distributed.ray_workers import RayActors

            return RayActors(count, address, share)

        return start_ray, count
    if address is not None or gpus is not None:
        raise ConfigurationError("--ray-address and --worker-gpus are for --engine ray")
    if workers in (None, 1):
        return None

    def start_processes() -> Crew:
        from monai_zsad.distributed.local_workers import Processes

        return Processes(workers)

    return start_processes, workers


def prepare(
    scans: str, output_dir: str | os.PathLike[str], bundle: str | os.PathLike[str], settings: Mapping[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """What a run of a bundle on scans is given.

    Args:
        scans: as of :func:`monai_zsad.workflow.screen`.
        output_dir: folder for the results.
        bundle: a bundle's folder or name.
        settings: values by id.

    Returns:
        The bundle's ``inference.yaml``, and all values that replace its own.

    Raises:
        ConfigurationError: if there is no such bundle, or a setting is none of it.
    """
    from monai_zsad.workflow.bundles import find_bundle
    from monai_zsad.workflow.option_checks import check_settings

    folder = find_bundle(bundle)
    config = folder / "configs" / "inference.yaml"
    own = {**settings, "dataset_dir": scans, "output_dir": os.fspath(output_dir)}
    check_settings(own, [config])
    return config, {**own, "bundle_root": str(folder)}


def run_bundle(
    config: Path,
    settings: Mapping[str, Any],
    crew: tuple[Callable[[], Crew], int] | None = None,
    **run_options: Any,
) -> bool:
    """Run a bundle in this process or by several workers.

    Args:
        config: the bundle's ``inference.yaml``.
        settings: values that replace its own, of :func:`prepare`.
        crew: the workers, of :func:`choose_crew`.
        **run_options: of ``monai.bundle.run``, where this process does all by itself.

    Returns:
        Whether every scan of the run is done.

    Raises:
        ZsadError: an error of the user, as it was raised; MONAI's own stands around those of configurations.
    """
    from monai_zsad.data import find_user_error

    try:
        if crew is not None:
            return _lead(*crew, str(config), dict(settings))

        from monai.bundle import run

        run(config_file=str(config), **settings, **run_options)
    except SystemExit as end:
        # The bundle's last word, where a scan has failed.
        if end.code not in (0, 1, None):
            raise
        return not end.code
    except RuntimeError as error:
        if found := find_user_error(error):
            raise found from error
        raise
    return True


def _lead(start: Callable[[], Crew], workers: int, config: str, settings: dict[str, Any]) -> bool:
    from monai_zsad.distributed.launcher import absolute, lead
    from monai_zsad.workflow.bundles import read_bundle
    from monai_zsad.workflow.screening import check_output

    own = absolute(settings)

    def find() -> list[dict[str, Any]]:
        """The cases of the run, as its configuration finds them."""
        parser = read_bundle(own["bundle_root"], own)
        cases = parser.get_parsed_content("datalist")
        check_output(
            own["output_dir"], cases, *(own.get(key, False) for key in ("overwrite", "resume", "retry_failed"))
        )
        return list(cases)

    return lead(start, workers, str(Path(config).absolute()), own, find)

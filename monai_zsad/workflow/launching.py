"""How ``screen`` runs a bundle: in this process or by several workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_zsad.errors import ConfigurationError

if TYPE_CHECKING:
    from monai_zsad.distributed.launcher import Workers

__all__ = ["WorkerPlan", "plan_workers", "prepare", "run_bundle"]


@dataclass(frozen=True)
class WorkerPlan:
    """Several workers.

    Attributes:
        make: makes what starts them.
        count: how many.
    """

    make: Callable[[], Workers]
    count: int


def plan_workers(
    engine: str = "process",
    workers: int | None = None,
    ray_address: str | None = None,
    worker_gpus: float | None = None,
    device: str | None = None,
    limit: int | None = None,
) -> WorkerPlan | None:
    """The workers of a run.

    Args:
        engine: ``"process"`` or ``"ray"``.
        workers: how many; None: this process alone, with Ray 2.
        ray_address: of an existing Ray cluster; None starts Ray here.
        worker_gpus: GPUs that a worker asks Ray for; None: 1 with ``device="cuda"``, else 0.
        device: of the run.
        limit: of the run's cases, which workers cannot keep.

    Returns:
        The plan; None if this process runs all cases itself.

    Raises:
        ConfigurationError: if the options contradict each other.

    Example:
        >>> plan_workers("process", 1) is None
        True
    """
    if engine not in ("process", "ray"):
        raise ConfigurationError(f"--engine {engine}: choose process or ray")
    if engine == "process" and (ray_address is not None or worker_gpus is not None):
        raise ConfigurationError("--ray-address and --worker-gpus are for --engine ray")
    if engine == "process" and workers in (None, 1):
        return None
    if limit is not None:
        raise ConfigurationError("--limit counts the cases of one process: leave out --workers and --engine ray")
    count = workers or 2

    def make() -> Workers:
        if engine == "ray":
            from monai_zsad.distributed.ray_workers import RayWorkers

            gpus = worker_gpus if worker_gpus is not None else float(str(device).startswith("cuda"))
            return RayWorkers(count, ray_address, gpus)
        from monai_zsad.distributed.local_workers import LocalWorkers

        return LocalWorkers(count)

    return WorkerPlan(make, count)


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
        ConfigurationError: if there is no such bundle, it does not have a setting, or a value cannot be used.
    """
    from monai_zsad.workflow.bundles import find_bundle
    from monai_zsad.workflow.options.command_line import check_settings
    from monai_zsad.workflow.options.early import check_values, read_yaml, with_overrides

    folder = find_bundle(bundle)
    config = folder / "configs" / "inference.yaml"
    own = {**settings, "dataset_dir": scans, "output_dir": os.fspath(output_dir)}
    content = read_yaml(config)
    check_settings(own, content)
    check_values(with_overrides(content, own))
    return config, {**own, "bundle_root": str(folder)}


def run_bundle(
    config: Path, settings: Mapping[str, Any], workers: WorkerPlan | None = None, **run_options: Any
) -> bool:
    """Run a bundle in this process or by several workers.

    Args:
        config: the bundle's ``inference.yaml``.
        settings: values that replace its own, of :func:`prepare`.
        workers: of :func:`plan_workers`.
        **run_options: of ``monai.bundle.run``, if this process runs all cases itself.

    Returns:
        Whether every scan of the run is done.

    Raises:
        ZsadError: an error of the user, without MONAI's wrapping.
    """
    from monai_zsad.workflow.options.early import check_start, read_yaml, with_overrides
    from monai_zsad.workflow.user_errors import user_errors

    check_start(with_overrides(read_yaml(config), settings))
    try:
        with user_errors():
            if workers is not None:
                return _launch(workers, str(config), dict(settings))

            from monai.bundle import run

            run(config_file=str(config), **settings, **run_options)
    except SystemExit as end:
        # ScreeningRun.finish ends with 1 if a scan failed.
        if end.code not in (0, 1, None):
            raise
        return not end.code
    return True


def _launch(workers: WorkerPlan, config: str, settings: dict[str, Any]) -> bool:
    from monai_zsad.distributed.launcher import absolute, launch
    from monai_zsad.flags import parse_flag
    from monai_zsad.workflow.bundles import read_bundle
    from monai_zsad.workflow.cases.output_folder import check_output

    own = absolute(settings)

    def find() -> Sequence[dict[str, Any]]:
        """The cases of the run, as its configuration finds them."""
        cases = read_bundle(own["bundle_root"], own).get_parsed_content("datalist")
        flags = {name: parse_flag(name, own.get(name, False)) for name in ("overwrite", "resume", "retry_failed")}
        check_output(own["output_dir"], cases, flags["overwrite"], flags["resume"] or flags["retry_failed"])
        return cases

    return launch(workers.make, workers.count, str(Path(config).absolute()), own, find)

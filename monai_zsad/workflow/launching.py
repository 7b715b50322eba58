"""How ``screen`` runs a bundle: in this process or by several workers.

As a program this module is such a worker. It reads its job, one line of JSON, from stdin. It ends when stdin is closed:
when its launcher ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai_zsad.errors import ConfigurationError

if TYPE_CHECKING:
    from monai_zsad.distributed.launcher import Job, Workers

__all__ = ["WorkerPlan", "plan_workers", "prepare", "run_bundle", "work"]


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
            return RayWorkers(count, work, ray_address, gpus)
        from monai_zsad.distributed.local_workers import LocalWorkers

        return LocalWorkers(count, __name__)

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
    check_settings(own, content, folder.resolve().name)
    check_values(with_overrides(content, own))
    return config, {**own, "bundle_root": str(folder)}


def run_bundle(
    config: Path,
    settings: Mapping[str, Any],
    workers: WorkerPlan | None = None,
    console: AbstractContextManager[Any] | None = None,
    around: Callable[[Any], AbstractContextManager[Any]] | None = None,
    **run_options: Any,
) -> bool:
    """Run a bundle in this process or by several workers.

    Args:
        config: the bundle's ``inference.yaml``.
        settings: values that replace its own, of :func:`prepare`.
        workers: of :func:`plan_workers`.
        console: is entered when the first checks have passed, see
            :func:`~monai_zsad.workflow.console.quiet_console`. MONAI's own logging is not set up then.
        around: is called with the parser of the configuration, if this process runs all cases itself. The run is within
            what it returns.
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
        with console or contextlib.nullcontext(), user_errors():
            if workers is not None:
                return _launch(workers, str(config), dict(settings))

            from monai.bundle import ConfigWorkflow

            if console is not None:
                run_options = {"logging_file": False, **run_options}
            workflow = ConfigWorkflow(config_file=str(config), **settings, **run_options)
            with around(workflow.parser) if around else contextlib.nullcontext():
                workflow.initialize()
                workflow.run()
                workflow.finalize()
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
    from monai_zsad.workflow.console.events import emit, emit_end, emit_input, emit_scan, is_input
    from monai_zsad.workflow.console.quiet import open_log
    from monai_zsad.writers.status import StatusRow

    own, begin = absolute(settings), time.perf_counter()
    folder, found, rows = Path(settings["output_dir"]).expanduser(), [0], list[StatusRow]()
    flags = {name: parse_flag(name, own.get(name, False)) for name in ("overwrite", "resume", "retry_failed")}
    resumes = flags["resume"] or flags["retry_failed"]

    def find() -> Sequence[dict[str, Any]]:
        """The cases of the run, as its configuration finds them."""
        cases: Sequence[dict[str, Any]] = read_bundle(own["bundle_root"], own).get_parsed_content("datalist")
        check_output(own["output_dir"], cases, flags["overwrite"], resumes)
        open_log(folder)
        found[0] = len(cases)
        emit("run-started", results=str(folder), scans=len(cases), complete=0)
        return cases

    def tell(row: StatusRow) -> None:
        rows.append(row)
        if is_input(row.case):
            emit_input(row)
        else:
            number = sum(not is_input(one.case) for one in rows)
            # Which cases are complete already, only the workers find out.
            emit_scan(folder, row, number, None if resumes else found[0])

    done = launch(workers.make, workers.count, str(Path(config).absolute()), own, find, tell)
    complete = found[0] - sum(not is_input(row.case) for row in rows) if resumes else 0
    emit_end(folder, rows, complete, time.perf_counter() - begin)
    return done


def work(job: Job) -> None:
    """Do the job of a worker: run the bundle on its share of the cases. The launcher tells of them.

    Args:
        job: of the launcher.

    Raises:
        ZsadError: a user error that the bundle raised.
    """
    from monai_zsad.distributed.ranks import RUN_VARIABLE
    from monai_zsad.workflow.console import quiet_console
    from monai_zsad.workflow.user_errors import user_errors

    os.environ[RUN_VARIABLE] = job.run
    with quiet_console("silent", progress=False, scans=job.settings.get("dataset_dir")), user_errors():
        from monai.bundle import run

        run(config_file=job.config_file, **job.settings, logging_file=False)


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Do the job that stdin gives."""
    from monai_zsad.distributed.launcher import Job
    from monai_zsad.errors import ZsadError

    job = Job(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        work(job)
    except ZsadError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = 1
    else:
        code = 0
    sys.stdout.flush()
    # The thread that reads stdin holds its lock, and an ordinary end of the interpreter would wait for this lock.
    os._exit(code)


if __name__ == "__main__":
    main()

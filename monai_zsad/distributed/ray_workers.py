"""Workers that are actors of Ray, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from typing import Any

from monai_zsad.distributed.claims import Claims
from monai_zsad.distributed.launcher import Job
from monai_zsad.errors import ConfigurationError, ZsadError

__all__ = ["RayWorkers"]

_logger = logging.getLogger(__name__)


class _Screener:
    """An actor, which loads the model once for all its cases."""

    def identify(self, output_dir: str) -> tuple[str, int]:
        """Host and process id, as claims name them."""
        owner = Claims(output_dir).owner
        return owner.host, owner.pid

    def run(self, work: Callable[[Job], None], job: Job) -> None:
        work(job)


class RayWorkers:
    """:class:`~monai_zsad.distributed.launcher.Workers` as Ray actors.

    Ray Data was not used for two reasons: its map tasks pass rows from worker to driver, but results here are files in
    a shared folder; and it would repeat a case that kills its worker without counting. Each actor takes cases by
    claims, like every other process, so that actors may come and go with the cluster. Every node needs this package,
    and the folders of scans, bundle and results under the same paths.

    Args:
        count: number of workers.
        work: does a job; of a module, so that other machines find it.
        address: of a cluster, as ``ray.init`` takes it; None: the address in ``RAY_ADDRESS``, or a new Ray on this
            machine.
        num_gpus: GPUs for each actor; may be a fraction.
        verbose: show what the actors print.

    Raises:
        ConfigurationError: if Ray is not installed, or its cluster cannot be reached.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[Job], None],
        address: str | None = None,
        num_gpus: float = 0.0,
        verbose: bool = False,
    ) -> None:
        self.work = work
        try:
            import ray
        except ImportError as error:
            raise ConfigurationError("--engine ray needs Ray: pip install 'monai-zsad[ray]'") from error
        self.ray: Any = ray
        self._started_ray = not ray.is_initialized()
        is_local = address is None and "RAY_ADDRESS" not in os.environ
        local: dict[str, Any] = {"num_cpus": max(count, os.cpu_count() or 1), "include_dashboard": False}
        try:
            ray.init(
                address=address,
                ignore_reinit_error=True,
                logging_level="warning" if verbose else "error",
                log_to_driver=verbose,
                **(local if is_local else {}),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigurationError(f"--ray-address {address}: cannot be reached ({reason})") from error
        threads = max(1, (os.cpu_count() or 1) // count) if is_local else 1
        environment = {"env_vars": {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}}
        # Ray must not restart an actor by itself, as a case that kills its actor has to be counted.
        self.remote = ray.remote(
            num_cpus=1, num_gpus=num_gpus, max_restarts=0, max_task_retries=0, runtime_env=environment
        )(_Screener)
        self.running: dict[Any, tuple[int, Any, Any, Job]] = {}

    def start(self, number: int, job: Job) -> None:
        """Start the actor with this number, as soon as the cluster has room for it."""
        actor = self.remote.remote()
        identity = actor.identify.remote(str(job.settings["output_dir"]))
        self.running[actor.run.remote(self.work, job)] = number, actor, identity, job

    def wait(self, seconds: float) -> tuple[int, str] | None:
        """Number of an actor that has ended, and how it ended; None after these seconds."""
        ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=seconds)
        if not ready:
            return None
        (ended,) = ready
        number, actor, identity, job = self.running.pop(ended)
        try:
            self.ray.get(ended)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ZsadError):
                raise error.cause from None
            raise
        except self.ray.exceptions.RayError as error:
            _logger.debug("actor %d: %s", number, error)
            self._void(identity, job)
            return number, "died"
        self.ray.kill(actor)
        return number, "done"

    def stop(self) -> None:
        """End all actors that still run, and Ray itself if it was started for them."""
        for _, actor, _, _ in self.running.values():
            self.ray.kill(actor)
        self.running.clear()
        if self._started_ray:
            self.ray.shutdown()

    def _void(self, identity: Any, job: Job) -> None:
        """Void the claims of an actor that Ray knows to be dead, so that nobody waits for its next sign of life."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            host, pid = self.ray.get(identity, timeout=10)
            Claims(str(job.settings["output_dir"]), job.run).void(host, pid)

"""Workers that are actors of Ray, on this machine or a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any

from monai_zsad.distributed.claims import Claims
from monai_zsad.distributed.launcher import Order
from monai_zsad.distributed.worker import work
from monai_zsad.errors import ConfigurationError, ZsadError

__all__ = ["RayActors"]

_logger = logging.getLogger(__name__)


class _Screener:
    """An actor: keeps the model from its first case to its last."""

    def whereabouts(self, output_dir: str) -> tuple[str, int]:
        """Machine and process id, as claims name them."""
        owner = Claims(output_dir).owner
        return owner.host, owner.pid

    def run(self, order: Order) -> None:
        work(order.config_file, order.settings, order.run)


class RayActors:
    """A :class:`~monai_zsad.distributed.launcher.Crew` of Ray actors.

    Ray Data was not used: its map tasks hand rows from worker to driver, while results here are files of a shared
    folder, and a case that kills its worker would be retried without count. Each actor takes cases by claims, like any
    other process, so that actors may come and go with the cluster. Every node needs this package, and the folders of
    scans, bundle and results under the same paths.

    Args:
        workers: how many there will be.
        address: of a cluster, as ``ray.init`` takes it; None: that of ``RAY_ADDRESS``, else Ray is started here.
        num_gpus: GPUs that each actor asks for, also a part of one.

    Raises:
        ConfigurationError: if Ray is not installed, or its cluster cannot be reached.
    """

    def __init__(self, workers: int, address: str | None = None, num_gpus: float = 0.0) -> None:
        try:
            import ray
        except ImportError as error:
            raise ConfigurationError("--engine ray needs Ray: pip install 'monai-zsad[ray]'") from error
        self.ray: Any = ray
        self.ours = not ray.is_initialized()
        here = address is None and "RAY_ADDRESS" not in os.environ
        options: dict[str, Any] = {"num_cpus": max(workers, os.cpu_count() or 1), "include_dashboard": False}
        try:
            ray.init(address=address, ignore_reinit_error=True, logging_level="warning", **(options if here else {}))
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigurationError(f"--ray-address {address}: cannot be reached ({reason})") from error
        threads = max(1, (os.cpu_count() or 1) // workers) if here else 1
        environment = {"env_vars": {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}}
        # A case that kills an actor must be counted, so none is started again by Ray itself.
        self.remote = ray.remote(
            num_cpus=1, num_gpus=num_gpus, max_restarts=0, max_task_retries=0, runtime_env=environment
        )(_Screener)
        self.running: dict[Any, tuple[int, Any, Any, Order]] = {}

    def start(self, number: int, order: Order) -> None:
        """Start the actor of this number, as soon as the cluster has room for it."""
        actor = self.remote.remote()
        place = actor.whereabouts.remote(str(order.settings["output_dir"]))
        self.running[actor.run.remote(order)] = number, actor, place, order

    def wait(self) -> tuple[int, str]:
        """Number of an actor that has ended, and how."""
        (ended,), _ = self.ray.wait(list(self.running), num_returns=1)
        number, actor, place, order = self.running.pop(ended)
        try:
            self.ray.get(ended)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ZsadError):
                raise error.cause from None
            raise
        except self.ray.exceptions.RayError as error:
            _logger.debug("actor %d: %s", number, error)
            self._void(place, order)
            return number, "died"
        self.ray.kill(actor)
        return number, "done"

    def stop(self) -> None:
        """End all actors that are left, and Ray itself if it was started for them."""
        for _, actor, _, _ in self.running.values():
            self.ray.kill(actor)
        self.running.clear()
        if self.ours:
            self.ray.shutdown()

    def _void(self, place: Any, order: Order) -> None:
        """Let nobody wait for a heartbeat of an actor that Ray knows to be dead."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            host, pid = self.ray.get(place, timeout=10)
            Claims(str(order.settings["output_dir"]), order.run).void(host, pid)

"""The rank of this process in a run: a rank of torchrun, a worker of ``screen --workers``, or the only process."""

from __future__ import annotations

import datetime
import os
import uuid
from dataclasses import dataclass
from typing import Any

__all__ = ["RUN_VARIABLE", "Rank", "current_rank", "use_own_device"]

RUN_VARIABLE = "MONAI_ZSAD_RUN"
"""Environment variable of workers that ``screen`` starts: the name of their run. The launcher is the leader."""

_RESTARTS = "TORCHELASTIC_RESTART_COUNT"
_LONGEST_START = datetime.timedelta(hours=1)
_agreed: list[tuple[str, Any]] = []


@dataclass(frozen=True)
class Rank:
    """The part of this process among those that were started together.

    Attributes:
        is_leader: this process writes the tables, and its exit code is the exit code of the run.
        restarted: processes of the same start have run cases before.
        run: name of the run; empty if this process may choose it.
        world_size: number of ranks that have to agree on a name.
    """

    is_leader: bool = True
    restarted: bool = False
    run: str = ""
    world_size: int = 1

    def agree_on_run(self) -> str:
        """Name of the run; the same for all runs of this process. Ranks of torchrun wait here for each other, once.

        They do not wait for each other later, so that a rank that dies does not stop the others.
        """
        if self.world_size == 1:
            return self.run or uuid.uuid4().hex
        if _agreed:
            return _agreed[-1][0]
        # Not a process group: torch keeps the addresses of dead ranks, and gloo would connect to them after a restart.
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        shared, rank, world_size = next(rendezvous("env://"))
        shared.set_timeout(_LONGEST_START)
        store = PrefixStore(f"monai_zsad/{os.environ.get(_RESTARTS, '0')}", shared)
        if rank == 0:
            store.set("run", uuid.uuid4().hex)
        name = store.get("run").decode()
        if store.add("here", 1) == world_size:
            store.set("all", "here")
        store.wait(["all"])
        # Without torchrun's own store, rank 0 serves it; the store must live until the other ranks have read it.
        _agreed.append((name, shared))
        return name


def current_rank() -> Rank:
    """Rank of this process, from its environment variables.

    Example:
        >>> current_rank().is_leader
        True
    """
    if run := os.environ.get(RUN_VARIABLE):
        return Rank(is_leader=False, restarted=True, run=run)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1 and "RANK" in os.environ:
        restarted = int(os.environ.get(_RESTARTS, "0")) > 0
        return Rank(is_leader=os.environ["RANK"] == "0", restarted=restarted, world_size=world_size)
    return Rank()


def use_own_device() -> None:
    """Let "cuda" mean the GPU of this rank, by ``LOCAL_RANK``."""
    import torch

    local = os.environ.get("LOCAL_RANK")
    if local is not None and torch.cuda.is_available():
        torch.cuda.set_device(int(local) % torch.cuda.device_count())

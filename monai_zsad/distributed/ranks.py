"""Which of several processes this one is: a rank of torchrun, a worker of ``screen --workers``, or the only one."""

from __future__ import annotations

import datetime
import os
import uuid
from dataclasses import dataclass
from typing import Any

__all__ = ["CREW_VARIABLE", "Place", "place", "use_own_device"]

CREW_VARIABLE = "MONAI_ZSAD_CREW"
"""Environment variable of workers that ``screen`` starts: the name of their run. The starting process leads them."""

_RESTARTS = "TORCHELASTIC_RESTART_COUNT"
_LONGEST_START = datetime.timedelta(hours=1)
_served: list[Any] = []


@dataclass(frozen=True)
class Place:
    """Place of this process among those that were started together.

    Attributes:
        leads: writes the tables and ends with the exit code of all.
        started_again: others of the same start have been at work before.
        run: name of the run, empty where this process may choose it.
        world: how many ranks have to agree on a name.
    """

    leads: bool = True
    started_again: bool = False
    run: str = ""
    world: int = 1

    def agree(self) -> str:
        """Name of the run; ranks of torchrun wait for one another here, once, before the first case.

        Nothing is awaited later, so that a rank that dies keeps no other.
        """
        if self.world == 1:
            return self.run or uuid.uuid4().hex
        # Not a process group: torch keeps the addresses of ranks that died, and gloo of a second start connects to
        # those.
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        shared, rank, world = next(rendezvous("env://"))
        shared.set_timeout(_LONGEST_START)
        store = PrefixStore(f"monai_zsad/{os.environ.get(_RESTARTS, '0')}", shared)
        if rank == 0:
            store.set("run", uuid.uuid4().hex)
        name = store.get("run").decode()
        if store.add("here", 1) == world:
            store.set("all", "here")
        store.wait(["all"])
        # Without torchrun's own store the first rank serves it: it may not go before others have read.
        _served.append(shared)
        return name


def place() -> Place:
    """Place of this process, from its environment.

    Example:
        >>> place().leads
        True
    """
    if crew := os.environ.get(CREW_VARIABLE):
        return Place(leads=False, started_again=True, run=crew)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and "RANK" in os.environ:
        again = int(os.environ.get(_RESTARTS, "0")) > 0
        return Place(leads=os.environ["RANK"] == "0", started_again=again, world=world)
    return Place()


def use_own_device() -> None:
    """Let "cuda" mean the GPU of this rank, by ``LOCAL_RANK``."""
    import torch

    local = os.environ.get("LOCAL_RANK")
    if local is not None and torch.cuda.is_available():
        torch.cuda.set_device(int(local) % torch.cuda.device_count())

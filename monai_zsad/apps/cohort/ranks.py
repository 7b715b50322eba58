"""Which of several processes this one is: a rank of torchrun, a worker of ``screen --workers``, or the only one."""

from __future__ import annotations

import datetime
import os
import uuid
from dataclasses import dataclass

__all__ = ["CREW_VARIABLE", "Place", "place", "use_own_device"]

CREW_VARIABLE = "MONAI_ZSAD_CREW"
"""Environment variable of workers that ``screen`` starts: the name of their run. The starting process leads them."""

_LONGEST_START = datetime.timedelta(hours=1)


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
        import torch.distributed as dist

        ours = not dist.is_initialized()
        if ours:
            dist.init_process_group("gloo", timeout=_LONGEST_START)
        names = [uuid.uuid4().hex]
        dist.broadcast_object_list(names, src=0)
        dist.barrier()
        if ours:
            dist.destroy_process_group()
        return names[0]


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
        again = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        return Place(leads=os.environ["RANK"] == "0", started_again=again, world=world)
    return Place()


def use_own_device() -> None:
    """Let "cuda" mean the GPU of this rank, by ``LOCAL_RANK``."""
    import torch

    local = os.environ.get("LOCAL_RANK")
    if local is not None and torch.cuda.is_available():
        torch.cuda.set_device(int(local) % torch.cuda.device_count())

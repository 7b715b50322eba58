"""Several processes of one training or evaluation: how they come together and how they part."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn.parallel import DistributedDataParallel

__all__ = ["join_group", "leave_group"]

_PATIENCE = datetime.timedelta(minutes=30)


def join_group(patience: datetime.timedelta = _PATIENCE) -> None:
    """Make the process group of all ranks that ``torchrun`` started: NCCL with GPUs, else Gloo.

    Args:
        patience: how long ranks wait for one another, then and later.
    """
    import torch
    import torch.distributed as dist

    # Its functions have the group as a default argument, as it is when the module is first imported. Where that is
    # DistributedDataParallel's doing, later than here, they keep the group for ever, and what it runs.
    import torch.distributed.nn.functional

    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=patience)


def leave_group(wrapped: DistributedDataParallel | None = None) -> None:
    """Wait for the other ranks, then end the process group and its threads.

    Gloo's threads live as long as anything holds the group, and a thread that still runs while the interpreter goes
    down can abort a process whose work is done.

    Args:
        wrapped: the network that was trained, which holds the group; not to be called any more.
    """
    import torch.distributed as dist

    # Who leaves first closes connections that another may still read.
    dist.barrier()
    for holder in ("reducer", "logger", "process_group"):
        if wrapped is not None:
            wrapped.__dict__.pop(holder, None)
    dist.destroy_process_group()

"""The process group of a training or evaluation that torchrun started: how ranks join it and leave it."""

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
        patience: how long ranks wait for each other, now and later.
    """
    import torch
    import torch.distributed as dist

    # Functions of this module have the group as a default argument, with its value at the first import. If
    # DistributedDataParallel imported the module later, those functions would keep the group and its threads alive.
    import torch.distributed.nn.functional

    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=patience)


def leave_group(wrapped: DistributedDataParallel | None = None) -> None:
    """Wait for the other ranks, then end the process group and its threads.

    The threads of Gloo live as long as an object holds the group. A thread that still runs when the interpreter ends
    can abort the process, although its work is done.

    Args:
        wrapped: the trained network, which holds the group; it must not be called afterwards.
    """
    import torch.distributed as dist

    # The rank that leaves first closes connections that another rank may still read.
    dist.barrier()
    for holder in ("reducer", "logger", "process_group"):
        if wrapped is not None:
            wrapped.__dict__.pop(holder, None)
    dist.destroy_process_group()

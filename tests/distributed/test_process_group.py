"""Processes that train together leave nothing running behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

PROGRAM = """
import os
import torch
from monai_zsad.distributed.process_group import join_group, leave_group

def threads():
    names = (open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task"))
    return {name for name in names if "gloo" in name}

join_group()
join_group()  # a second time changes nothing
wrapped = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
wrapped(torch.ones(1, 2)).sum().backward()
during = threads()
leave_group(wrapped)
print(bool(during), sorted(threads()), torch.distributed.is_initialized(), wrapped.module.weight.grad.tolist())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are read from /proc")
def test_no_thread_of_the_group_is_left() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment = {**os.environ, **ranks, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "True [] False [[1.0, 1.0]]"

"""Workers that are processes of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict

from monai_zsad.distributed.launcher import Job

__all__ = ["LocalWorkers"]

_POLL_SECONDS = 0.1


class LocalWorkers:
    """:class:`~monai_zsad.distributed.launcher.Workers` as local processes; they end when this process ends.

    Args:
        count: number of workers. They divide the cores and get the GPUs in turn.
    """

    def __init__(self, count: int) -> None:
        self.threads = max(1, (os.cpu_count() or 1) // count)
        self.running: dict[int, subprocess.Popen[str]] = {}

    def start(self, number: int, job: Job) -> None:
        """Start the worker with this number."""
        environment = {"OMP_NUM_THREADS": str(self.threads)} | os.environ | {"LOCAL_RANK": str(number)}
        command = [sys.executable, "-m", "monai_zsad.distributed.worker"]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True)
        self.running[number] = process
        if process.stdin is not None:
            process.stdin.write(json.dumps(asdict(job)) + "\n")
            process.stdin.flush()

    def wait(self) -> tuple[int, str]:
        """Number of a worker that has ended, and how it ended."""
        while True:
            for number, process in self.running.items():
                code = process.poll()
                if code is not None:
                    del self.running[number]
                    return number, {0: "done", 1: "refused"}.get(code, "died")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End all workers that still run."""
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait()
        self.running.clear()

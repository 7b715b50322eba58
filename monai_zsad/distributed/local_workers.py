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
        module: is run as a program; it reads its job, one line of JSON, from stdin, and ends when stdin is closed.
    """

    def __init__(self, count: int, module: str) -> None:
        self.module = module
        self.threads = max(1, (os.cpu_count() or 1) // count)
        self.running: dict[int, subprocess.Popen[str]] = {}

    def start(self, number: int, job: Job) -> None:
        """Start the worker with this number."""
        environment = {"OMP_NUM_THREADS": str(self.threads)} | os.environ | {"LOCAL_RANK": str(number)}
        command = [sys.executable, "-m", self.module]
        # Of its own session, so that Ctrl-C reaches the launcher only, which then ends its workers.
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True, start_new_session=True)
        self.running[number] = process
        if process.stdin is not None:
            process.stdin.write(json.dumps(asdict(job)) + "\n")
            process.stdin.flush()

    def wait(self, seconds: float) -> tuple[int, str] | None:
        """Number of a worker that has ended, and how it ended; None after these seconds."""
        end = time.monotonic() + seconds
        while True:
            for number, process in self.running.items():
                code = process.poll()
                if code is not None:
                    del self.running[number]
                    return number, {0: "done", 1: "refused"}.get(code, "died")
            if time.monotonic() >= end:
                return None
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End all workers that still run."""
        for process in self.running.values():
            process.kill()
        for process in self.running.values():
            process.wait()
        self.running.clear()

"""Whole programs as child processes: wall time, time of the processor, and the most memory they took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Cost", "least", "run_program"]

ROOT = Path(__file__).resolve().parents[2]

# Linux counts what the parent of a process held when it started it: a small program of its own starts the measured one.
_LAUNCHER = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
code = subprocess.run(sys.argv[2:]).returncode
wall, usage = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss], file)
sys.exit(code)
"""


@dataclass(frozen=True)
class Cost:
    """What a program took.

    Attributes:
        wall: seconds from its start to its end.
        processor: seconds of all threads, user and system.
        memory: most resident memory, bytes.
    """

    wall: float
    processor: float
    memory: int

    def __str__(self) -> str:
        return f"{self.wall:9.2f} {self.processor:9.2f} {self.memory / 2**20:9.0f}"


def run_program(module: str, *arguments: str, threads: int = 1, output: Path | None = None) -> Cost:
    """Run ``python -m module arguments`` from the repository's root.

    Args:
        module: its name.
        arguments: its command line.
        threads: of OpenMP in it.
        output: file for what it prints; what a program that fails prints is shown.

    Raises:
        RuntimeError: if it fails.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    with tempfile.TemporaryDirectory() as folder:
        usage = Path(folder) / "usage.json"
        done = subprocess.run(
            [sys.executable, "-c", _LAUNCHER, str(usage), sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            words = " ".join(arguments)
            raise RuntimeError(f"python -m {module} {words} ended with {done.returncode}:\n{done.stdout}")
        wall, processor, memory = json.loads(usage.read_text(encoding="utf-8"))
    if output is not None:
        output.write_text(done.stdout, encoding="utf-8")
    # Linux gives KiB, macOS bytes.
    return Cost(wall, processor, memory * (1 if sys.platform == "darwin" else 1024))


def least(costs: Sequence[Cost]) -> Cost:
    """The least of each: what others on the machine add is never negative. Of memory, the most."""
    return Cost(
        min(cost.wall for cost in costs), min(cost.processor for cost in costs), max(cost.memory for cost in costs)
    )

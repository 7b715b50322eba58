"""Runs of the small bundle that may be killed: ``python -m tests.integration.cohort_runs SCANS`` serves commands.

As in ``tests.writers.interrupted``, the process that imported everything stays and each run is a fork of it. One JSON
list per line of stdin: ``["start", folder, options]`` answers the run's process id, ``["wait", id]`` its wait status.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.bundles.runs import ROOT, run_small


def run(scans: Path, folder: Path, options: dict[str, Any]) -> int:
    """The exit code of a run."""
    try:
        run_small(ROOT / "tiny_screening", scans, folder, report=False, **options)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def start(scans: Path, folder: str, options: dict[str, Any]) -> int:
    """Process id of a run, whose words go to a file beside its folder."""
    if pid := os.fork():
        return pid
    code = 2
    try:
        log = os.open(f"{folder}.{os.getpid()}.log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = run(scans, Path(folder), options)
    finally:
        sys.stdout.flush()
        os._exit(code)


def main() -> None:
    """Serve until stdin ends."""
    torch.set_num_threads(1)
    scans = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        # What is imported on first use is so before the first fork.
        run(scans / "study000" / "scan.nii.gz", Path(folder) / "out", {})
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        command, *rest = json.loads(line)
        answer = start(scans, *rest) if command == "start" else os.waitpid(rest[0], 0)[1]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

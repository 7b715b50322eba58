"""Wall time and peak memory of one volume through ``monai.bundle run``, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from monai_zsad.synthesis import phantom_head, write_phantom

SHAPE, SPACING = (256, 256, 180), (0.9, 0.9, 1.0)
CORES = 2
LIMIT_SECONDS, LIMIT_GIGABYTES = 20.0, 1.5


def speed(bundle: Path, weights: str | None, shape: tuple[int, int, int] = SHAPE) -> dict[str, Any]:
    """Run the bundle on a phantom and watch the process with its children; start of Python and loading count.

    Time means something on a quiet machine only: see ``load before``, and ``CPU seconds`` over the cores.
    """
    with tempfile.TemporaryDirectory() as folder:
        scan = write_phantom(phantom_head(shape, SPACING, contrast="flair"), Path(folder) / "scan.nii.gz")
        command = [sys.executable, "-m", "monai.bundle", "run"]
        command += ["--config_file", str(bundle / "configs" / "inference.yaml"), "--bundle_root", str(bundle)]
        command += ["--dataset_dir", str(scan), "--output_dir", str(Path(folder) / "out"), "--progress", "false"]
        command += [] if weights is None else ["--weights#model", weights]
        environment = os.environ | {"OMP_NUM_THREADS": str(CORES)}
        busy = os.getloadavg()[0]
        with open(Path(folder) / "log", "w+b") as log:
            start = time.perf_counter()
            process = psutil.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
            if hasattr(process, "cpu_affinity"):
                process.cpu_affinity(sorted(process.cpu_affinity())[:CORES])
            peak, used = 0, 0.0
            while process.poll() is None:
                resident, spent = _usage(process)
                peak, used = max(peak, resident), max(used, spent)
                time.sleep(0.01)
            seconds = time.perf_counter() - start
            log.seek(0)
            if process.returncode:
                raise SystemExit(log.read().decode(errors="replace"))
    gigabytes = peak / 1e9
    return {
        "shape": list(shape),
        "seconds": seconds,
        "CPU seconds": used,
        "peak GB": gigabytes,
        "cores": CORES,
        "load before": busy,
        "within limits": seconds <= LIMIT_SECONDS and gigabytes <= LIMIT_GIGABYTES,
    }


def _usage(process: psutil.Process) -> tuple[int, float]:
    """Resident bytes of a process and its children, and its seconds on CPUs."""
    resident, spent = 0, 0.0
    try:
        times = process.cpu_times()
        spent = times.user + times.system
        for one in (process, *process.children(recursive=True)):
            resident += one.memory_info().rss
    except psutil.Error:
        # One has ended between two looks.
        return resident, spent
    return resident, spent

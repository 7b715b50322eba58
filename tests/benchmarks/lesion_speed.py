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

from monai_zsad.data import phantom_head, write_phantom

SHAPE, SPACING = (256, 256, 180), (0.9, 0.9, 1.0)
CORES = 2
LIMIT_SECONDS, LIMIT_GIGABYTES = 20.0, 1.5


def speed(bundle: Path, weights: str | None, shape: tuple[int, int, int] = SHAPE) -> dict[str, Any]:
    """Run the bundle on a phantom and watch the process with its children; start of Python and loading count."""
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
            peak = 0
            while process.poll() is None:
                peak = max(peak, _resident(process))
                time.sleep(0.01)
            seconds = time.perf_counter() - start
            log.seek(0)
            if process.returncode:
                raise SystemExit(log.read().decode(errors="replace"))
    gigabytes = peak / 1e9
    return {
        "shape": list(shape),
        "seconds": seconds,
        "peak GB": gigabytes,
        "cores": CORES,
        "load before": busy,
        "within limits": seconds <= LIMIT_SECONDS and gigabytes <= LIMIT_GIGABYTES,
    }


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.Error:
        # It has ended between two looks.
        return total
    return total

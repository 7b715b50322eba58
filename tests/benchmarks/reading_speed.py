"""Reading of one DICOM series, 120 slices of 512 x 512, by three programs: seconds, and the ratio to ours.

``python -m tests.benchmarks.reading_speed [--slices 120] [--size 512] [--rounds 3]``. The programs take turns in one
process, and the median of the rounds counts: pydicom, one file after another; highdicom's
``get_volume_from_series``; and :func:`monai_zsad.data.dicom.read_dicom`, with its checks of the headers alone beside
it. The series is written uncompressed, and as RLE, JPEG-LS and JPEG 2000. All programs must return the same values, and
ours must not be slower than highdicom, which it replaced, or the exit status is 1.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless
from scipy.ndimage import gaussian_filter

from monai_zsad.data.dicom import check_dicom, read_dicom
from tests.data.samples import write_series

LEAST_RATIO = 1.0
SYNTAXES: dict[str, UID | None] = {
    "uncompressed": None,
    "RLE": RLELossless,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}


def body(slices: int, size: int) -> np.ndarray:
    """A disk of smooth tissue with noise in air, 12 bits."""
    rng = np.random.default_rng(0)
    values = gaussian_filter(rng.standard_normal((slices, size, size), dtype=np.float32), (1, 2, 2))
    values = values / values.std() * 150 + 1000 + rng.integers(0, 12, values.shape)
    row, column = np.mgrid[:size, :size]
    inside = np.hypot(row - size / 2, column - size / 2) < 0.47 * size
    return np.asarray(np.where(inside, values.clip(1, 4095), 0).astype("<u2"))


def write(folder: Path, values: np.ndarray, syntax: UID | None) -> list[Path]:
    files = write_series(
        folder, slices=len(values), orientation=(1, 0, 0, 0, 1, 0), Rows=values.shape[1], Columns=values.shape[2],
        PixelRepresentation=0, RescaleSlope=2, RescaleIntercept=-1000,
        PixelData=lambda index: values[index].tobytes(),
    )  # fmt: skip
    for file in files if syntax else ():
        ds = pydicom.dcmread(file)
        if syntax == JPEG2000Lossless:
            stream = io.BytesIO()
            Image.fromarray(ds.pixel_array).save(stream, "JPEG2000", no_jp2=True, irreversible=False)
            ds.PixelData, ds["PixelData"].VR = encapsulate([stream.getvalue()]), "OB"
            ds.file_meta.TransferSyntaxUID = syntax
        else:
            ds.compress(str(syntax), generate_instance_uid=False)
        ds.save_as(file)
    return files


def plain(files: Sequence[Path]) -> np.ndarray:
    """One file after another, without any check."""
    datasets = sorted(map(pydicom.dcmread, files), key=lambda ds: float(ds.ImagePositionPatient[2]))
    slices = [ds.pixel_array * np.float32(ds.RescaleSlope) + np.float32(ds.RescaleIntercept) for ds in datasets]
    return np.ascontiguousarray(np.stack(slices).transpose(2, 1, 0))


def with_highdicom(files: Sequence[Path]) -> np.ndarray:
    datasets = [pydicom.dcmread(file) for file in files]
    volume = highdicom.image.get_volume_from_series(datasets, dtype=np.float32, apply_presentation_lut=False)
    return np.ascontiguousarray(volume.array[::-1].transpose(2, 1, 0))


def ours(files: Sequence[Path]) -> np.ndarray:
    return read_dicom(files).values


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.reading_speed", description=__doc__)
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    programs: dict[str, Callable[[Sequence[Path]], Any]] = {
        "pydicom": plain, "highdicom": with_highdicom, "read_dicom": ours, "check_dicom": check_dicom
    }  # fmt: skip
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{platform.processor() or platform.machine()}, {cores} cores, pydicom {pydicom.__version__}")
    print(f"{options.slices} slices of {options.size} x {options.size}; seconds, median of {options.rounds}")
    print(f"{'':>14}" + "".join(f"{name:>13}" for name in programs) + f"{'highdicom/ours':>16}")
    values, bad = body(options.slices, options.size), False
    for name, syntax in SYNTAXES.items():
        with tempfile.TemporaryDirectory() as folder:
            files = write(Path(folder), values, syntax)
            seconds: dict[str, list[float]] = {program: [] for program in programs}
            found: dict[str, Any] = {}
            for _ in range(options.rounds):
                for program, run in programs.items():
                    start = time.perf_counter()
                    found[program] = run(files)
                    seconds[program].append(time.perf_counter() - start)
        median = {program: statistics.median(times) for program, times in seconds.items()}
        ratio = median["highdicom"] / median["read_dicom"]
        same = all(np.array_equal(found[program], found["read_dicom"]) for program in ("pydicom", "highdicom"))
        bad |= not same or ratio < LEAST_RATIO
        times = "".join(f"{median[program]:13.2f}" for program in programs)
        print(f"{name:>14}{times}{ratio:16.2f}{'' if same else '  VALUES DIFFER'}", flush=True)
    return int(bad)


if __name__ == "__main__":
    raise SystemExit(main())

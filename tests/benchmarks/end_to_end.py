"""``screen`` against a plain loop over the slices, as whole programs, in one run: seconds, processor, memory, ratio.

``python -m tests.benchmarks.end_to_end [--bundle tiny_screening] [--scan FILE] [--rounds 3] [--threads 1]
[--set NAME=VALUE ...] [--every N] [--aim 5] [--device cuda]``. The plain loop is ``tests.benchmarks.plain_loop``:
nibabel, each slice through the network in float32, none skipped, the map saved. ``screen`` writes everything it writes
by default. The two alternate; of each, the least of the rounds counts. Both also run on a scan of 2 small slices: the
start of the program, which is told apart. Time of the processor hardly depends on what else the machine does; wall time
does.

``--every N`` gives both only each N-th slice, with N times the distance, and multiplies what goes beyond the start by
N: for networks that take minutes for a volume. Without ``--scan``, a synthetic head of 256 x 256 x 180 voxels.
The exit status is 1 if an aim is given and not reached.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import torch

from monai_zsad.synthesis import phantom_head, write_phantom
from monai_zsad.workflow.bundles import find_bundle, read_bundle
from tests.benchmarks.children import Cost, least, run_program

HEAD = ((256, 256, 180), (0.9, 0.9, 1.0))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.end_to_end", description=__doc__)
    parser.add_argument("--bundle", default="tiny_screening")
    parser.add_argument("--scan", type=Path, help="NIfTI file whose slices lie along its third axis")
    parser.add_argument("--seeded", action="store_true", help="random weights; time does not depend on them")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of screen")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of both programs")
    parser.add_argument(
        "--aim", type=float, help="least ratio, starts left out: of the processor's time, or of wall time on a GPU"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        return compare(options, Path(name))


def compare(options: argparse.Namespace, folder: Path) -> int:
    scan, slices = _scan(options, folder)
    tiny = folder / "start.nii.gz"
    write_phantom(phantom_head((32, 32, 2), (8.0, 8.0, 8.0), lesion=False), tiny)
    names = ("start of plain", "start of screen", "plain loop", "screen")
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for number in range(options.rounds):
        for file, plain, ours in ((tiny, *names[:2]), (scan, *names[2:])):
            costs[plain].append(_plain(options, file, folder / "map.nii.gz"))
            costs[ours].append(_screen(options, file, folder / f"{file.name}-{number}"))
    best = {name: least(found) for name, found in costs.items()}

    if options.device != "cpu":
        print(torch.cuda.get_device_name(options.device))
    print(f"{_processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, PyTorch {torch.__version__}")
    print(f"{options.bundle} {' '.join(options.set)}, {options.threads} thread(s), least of {options.rounds} rounds")
    print(f"{scan.name}: {' x '.join(map(str, nibabel.load(scan).shape))}, of {slices} slices every {options.every}.")
    print(f"{'':16} {'wall s':>9} {'cpu s':>9} {'peak MiB':>9}")
    for name in names:
        print(f"{name:16} {best[name]}")
    work = {name: _beyond(best[name], best[f"start of {name.split()[0]}"], options.every) for name in names[2:]}
    whole = {name: _plus(work[name], best[f"start of {name.split()[0]}"]) for name in names[2:]}
    if options.every > 1:
        print(f"for all slices, by multiplying what goes beyond the start by {options.every}:")
        for name in names[2:]:
            print(f"{name:16} {whole[name]}")
    ratios = [
        (
            label,
            found["plain loop"].wall / found["screen"].wall,
            found["plain loop"].processor / found["screen"].processor,
        )
        for label, found in (("whole programs", whole), ("without starts", work))
    ]
    for label, wall, processor in ratios:
        print(f"ratio, {label}: {wall:.2f} by wall time, {processor:.2f} by the processor's time")
    _explain(folder / f"{scan.name}-{options.rounds - 1}", slices // options.every, work["plain loop"], options.every)
    if options.aim is None:
        return 0
    ratio = ratios[1][2 if options.device == "cpu" else 1]
    print(f"aim: {options.aim:g}, {'reached' if ratio >= options.aim else 'not reached'}")
    return int(ratio < options.aim)


def _scan(options: argparse.Namespace, folder: Path) -> tuple[Path, int]:
    """File of the slices that both programs get, and how many the volume has."""
    source = options.scan or write_phantom(phantom_head(*HEAD, seed=3), folder / "head.nii.gz")
    image = nibabel.load(source)
    count = int(image.shape[2])
    if options.every == 1:
        return source, count
    affine = image.affine @ np.diag([1, 1, options.every, 1])
    part = nibabel.Nifti1Image(np.asarray(image.dataobj)[:, :, options.every // 2 :: options.every], affine)
    part.header.set_xyzt_units("mm")
    nibabel.save(part, folder / "part.nii.gz")
    return folder / "part.nii.gz", count


def _plain(options: argparse.Namespace, scan: Path, output: Path) -> Cost:
    seeded = ["--seeded"] if options.seeded else []
    words = (str(scan), str(output), "--bundle", options.bundle, "--device", options.device, *seeded)
    return run_program("tests.benchmarks.plain_loop", *words, threads=options.threads)


def _screen(options: argparse.Namespace, scan: Path, output: Path) -> Cost:
    parts: list[str] = []
    if options.seeded:
        folder = find_bundle(options.bundle)
        parts = list(read_bundle(folder, {"bundle_root": str(folder)}).get_parsed_content("released_weights"))
    words = ["screen", str(scan), "-o", str(output), "--bundle", options.bundle, "--no-progress", "--profile"]
    words += ["--device", options.device]
    words += [word for part in parts for word in ("--weights", f"{part}=seed:0")]
    words += [word for setting in options.set for word in ("--set", setting)]
    return run_program("monai_zsad", *words, threads=options.threads)


def _beyond(cost: Cost, start: Cost, times: int) -> Cost:
    return Cost((cost.wall - start.wall) * times, (cost.processor - start.processor) * times, cost.memory)


def _plus(cost: Cost, start: Cost) -> Cost:
    return Cost(cost.wall + start.wall, cost.processor + start.processor, cost.memory)


def _explain(output: Path, slices: int, plain: Cost, every: int) -> None:
    """Where the time of ``screen`` went, and how many slices it left out."""
    (row,) = csv.DictReader((output / "status.csv").open(encoding="utf-8", newline=""))
    parts = {name.split("_")[0]: float(value) for name, value in row.items() if name.endswith("_seconds") and value}
    scores = json.loads((output / row["case"] / "scores.json").read_text(encoding="utf-8"))
    seen = sum(entry["scored"] for entry in scores["slice_scores"])
    print(f"slices run: {seen} of {slices}; plain loop {plain.processor / every / slices * 1000:.0f} ms of cpu a slice")
    whole = sum(parts.values())
    print("screen, wall s: " + ", ".join(f"{name} {value:.2f} ({value / whole:.0%})" for name, value in parts.items()))


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    raise SystemExit(main())

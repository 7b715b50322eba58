"""Many small studies on one machine, with the run killed at random moments and resumed: is one lost, or done twice?

``python -m tests.benchmarks.cohort --count 1000 --out FOLDER [--runner in-process|ray] [--kills 5] [--seed 0]``: half
NIfTI, half DICOM, 3 % of them bad. ``screen`` runs them without a kill first: the reference. Then every runner has its
processes killed (SIGKILL to all of them at once, as in a power failure of the machine) and goes on with ``--resume``.
FOLDER gets ``cohort.json`` and ``cohort.png``, and keeps the results. The exit code is 1 if a check fails.

Seconds are those of the clock, except for the processor time, which hardly depends on other programs. Memory is the sum
of the resident memory of all processes of the run: what they share counts several times.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from monai_zsad.writers.status import STATUS_FOLDER, StatusRow, read_rows, row_identity
from tests.benchmarks.children import ROOT
from tests.benchmarks.cost_model import size_of
from tests.data.samples import write_nifti, write_series
from tests.integration.test_many import damage
from tests.integration.whole import problems, results

BAD_SHARE = 0.03
SAMPLE_SECONDS = 0.5
RUNNERS = {"in-process": (), "ray": ("--engine", "ray", "--workers", "2")}
NIFTI_FAULTS = ("empty file", "truncated file", "wrong checksum", "no NIfTI inside", "colour or time axis")
DICOM_FAULTS = ("empty slice", "truncated slice", "slice without DICOM", "inner slice missing", "end slice missing")


@dataclass
class Kill:
    """A kill at a ``second`` of the run: finished rows, cases that were being run, temporary files that were left.

    Attributes:
        before: seconds from the last row to the kill.
        after: seconds from the new start to the first new row, or to the next kill if there was none.
    """

    second: float
    rows: int = 0
    open: int = 0
    partial_files: int = 0
    before: float = 0.0
    after: float = 0.0


@dataclass
class Run:
    """A run with all its starts; ``samples`` hold second, bytes of memory, and number of rows."""

    seconds: float = 0.0
    processor: float = 0.0
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def peak(self) -> int:
        return max(memory for _, memory, _ in self.samples)


def make_studies(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Write studies; returns the fault of each bad one."""
    numbers = list(range(count))
    random.Random(seed).shuffle(numbers)
    bad = sorted(numbers[: round(BAD_SHARE * count)])
    faults: dict[str, str] = {}
    for number in range(count):
        name = f"study{number:05}"
        kind = bad.index(number) % len(NIFTI_FAULTS) if number in bad else None
        if number % 2:
            path = folder / f"{name}.nii.gz"
            write_nifti(path, (12, 10, 4), seed=number)
            if kind is not None:
                damage(path, kind)
                faults[name] = NIFTI_FAULTS[kind]
        else:
            files = write_series(folder / name, slices=4, number=number)
            if kind is not None:
                damage_series(files, kind)
                faults[name] = DICOM_FAULTS[kind]
    return faults


def damage_series(files: Sequence[Path], kind: int) -> None:
    """Damage the second slice, or remove it, or the last; files in their order in space."""
    content = files[1].read_bytes()
    if kind < 3:
        files[1].write_bytes((b"", content[:-20], b"no DICOM " * 100)[kind])
    else:
        files[(1, -1)[kind - 3]].unlink()


def run(scans: Path, output: Path, options: Sequence[str], kill_at: Sequence[int], chance: random.Random) -> Run:
    """Screen studies; at each of these numbers of rows, kill all processes after at most one more second."""
    whole, begin, used = Run(), time.time(), os.times()
    done: dict[str, tuple[int, int] | None] = {}
    for limit in [*sorted(kill_at), None]:
        resumed, finished = time.time(), row_times(output)
        start(scans, output, [*options, *(["--resume"] if whole.kills else [])], whole, begin, limit, chance)
        new = [moment for case, moment in row_times(output).items() if finished.get(case) != moment]
        if whole.kills:
            whole.kills[-1].after = min(new, default=time.time()) - resumed
        whole.problems += [f"{case}: screened again" for case in done if row_identity(output, case) != done[case]]
        rows = read_rows(output)
        done = {row.case: row_identity(output, row.case) for row in rows if row.is_done}
        if limit is not None:
            look(whole.kills[-1], output, rows, begin)
    whole.seconds = time.time() - begin
    now = os.times()
    whole.processor = now.children_user + now.children_system - used.children_user - used.children_system
    return whole


def row_times(output: Path) -> dict[str, float]:
    """When each row was written."""
    return {path.stem: path.stat().st_mtime for path in (output / STATUS_FOLDER).glob("[!.]*.json")}


def start(
    scans: Path,
    output: Path,
    options: Sequence[str],
    whole: Run,
    begin: float,
    limit: int | None,
    chance: random.Random,
) -> None:
    """Start ``screen`` and watch it until it ends or is killed."""
    command = [sys.executable, "-m", "monai_zsad", "screen", str(scans), "-o", str(output), "--set", "image_size=64"]
    command += ["--report", "none", "--case-names", "files", "--no-progress", "--quiet", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with (
        output.with_suffix(".log").open("ab") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True) as process,
    ):
        while process.poll() is None:
            processes = tree(process.pid)
            rows = len(row_times(output))
            whole.samples.append((time.time() - begin, sum(map(memory_of, processes)), rows))
            if limit is not None and rows >= limit:
                time.sleep(chance.uniform(0, 1))
                whole.kills.append(Kill(time.time() - begin))
                whole.problems += [f"process {pid} outlived the kill" for pid in kill(process)]
                return
            time.sleep(SAMPLE_SECONDS)
        if process.returncode not in (0, 1):
            whole.problems.append(f"screen ended with {process.returncode}: {output.with_suffix('.log')}")
        if limit is not None:
            whole.problems.append(f"screen ended before the kill at {limit} rows")


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that it started."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def kill(process: subprocess.Popen[bytes]) -> list[int]:
    """Kill the process group of a run, and processes of it that made groups of their own, as those of Ray do."""
    processes = tree(process.pid)
    os.killpg(process.pid, signal.SIGKILL)
    for one in processes[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    psutil.wait_procs(processes[1:], timeout=10)
    return [one.pid for one in processes if one.is_running()]


def look(killed: Kill, output: Path, rows: Sequence[StatusRow], begin: float) -> None:
    """Note what a kill left."""
    claimed = {path.name.rsplit(".", 2)[0] for path in (output / STATUS_FOLDER).glob("*.claim")}
    killed.rows, killed.open = len(rows), len(claimed - {row.case for row in rows})
    killed.partial_files = sum(path.is_file() for path in output.rglob(".*"))
    killed.before = killed.second + begin - max(row_times(output).values(), default=begin)


def report(one: Run, output: Path, count: int) -> dict[str, Any]:
    """What a run is written down as."""
    size, files = size_of(output)
    return {
        "seconds": one.seconds,
        "studies_per_hour": 3600 * count / one.seconds,
        "peak_memory": one.peak,
        "bytes": size,
        "files": files,
        "kills": [vars(kill) | {"lost": kill.before + kill.after} for kill in one.kills],
        "problems": one.problems,
    }


def faults_seen(output: Path, faults: dict[str, str]) -> dict[str, dict[str, int]]:
    """For each fault how many studies got which status and codes."""
    found: dict[str, Counter[str]] = {}
    for row in read_rows(output):
        if row.case in faults:
            found.setdefault(faults[row.case], Counter())[" ".join((row.status, *row.codes))] += 1
    return {fault: dict(found.get(fault, Counter())) for fault in sorted(set(faults.values()))}


def draw(runs: dict[str, Run], file: Path) -> None:
    """Memory and rows over time, one column for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(runs), 4.5), layout="constrained")
    axes = figure.subplots(2, len(runs), sharex="col", sharey="row", squeeze=False)
    for (upper, lower), (name, one) in zip(axes.T, runs.items(), strict=True):
        seconds, memory, rows = zip(*one.samples, strict=True)
        upper.plot(seconds, [value / 2**30 for value in memory], linewidth=0.8)
        lower.plot(seconds, rows, linewidth=1.2)
        upper.set_title(name)
        lower.set_xlabel("seconds")
        for kill in one.kills:
            for axis in (upper, lower):
                axis.axvline(kill.second, color="tab:red", linestyle=":", linewidth=1)
    axes[0][0].set_ylabel("memory, GiB")
    axes[0][0].set_ylim(bottom=0)
    axes[1][0].set_ylabel("finished studies")
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cohort", description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True, help="an empty or new folder")
    parser.add_argument("--runner", choices=RUNNERS, action="append", help="default: both")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    count, out, chance = options.count, options.out.resolve(), random.Random(options.seed)
    found: dict[str, Any] = {"count": count, "seed": options.seed, "processors": os.cpu_count()}
    runs: dict[str, Run] = {}

    processor: dict[int, float] = {}
    for size in sorted({1, count // 10, count}):
        faults = make_studies(out / f"scans{size}", size, options.seed)
        one = run(out / f"scans{size}", out / f"reference{size}", (), (), chance)
        processor[size] = one.processor
    reference = out / f"reference{count}"
    rows, expected = read_rows(reference), results(reference)
    refused = {row.case: row.codes for row in rows if not row.is_done}
    one.problems += problems(reference, expected, refused)
    if len(rows) != count:
        one.problems.append(f"{len(rows)} rows of {count} studies")
    each = {size: (processor[size] - processor[1]) / (size - 1) for size in processor if size > 1}
    found |= {"processor": processor, "processor_per_study": each, "ratio": each[count] / each[count // 10]}
    found |= {"bad": len(faults), "faults": faults_seen(reference, faults), "runs": {}}
    found["codes"] = Counter(code for codes in refused.values() for code in codes)
    runs["not killed"] = one
    write(out, found, runs, report(one, reference, count))

    for name in options.runner or RUNNERS:
        moments = [chance.randrange(count) for _ in range(options.kills)]
        output = out / name
        runs[name] = one = run(out / f"scans{count}", output, RUNNERS[name], moments, chance)
        one.problems += problems(output, expected, refused)
        codes = {row.case: row.codes for row in read_rows(output) if not row.is_done}
        one.problems += [f"{case}: another code" for case in refused if codes.get(case) != refused[case]]
        write(out, found, runs, report(one, output, count))
    sys.exit(any(one.problems for one in runs.values()))


def write(out: Path, found: dict[str, Any], runs: dict[str, Run], newest: dict[str, Any]) -> None:
    """Write and print what is known so far."""
    found["runs"][list(runs)[-1]] = newest | {"load": os.getloadavg()[0]}
    text = json.dumps(found, indent=1)
    (out / "cohort.json").write_text(text + "\n", encoding="utf-8")
    draw(runs, out / "cohort.png")
    print(text, flush=True)


if __name__ == "__main__":
    main()

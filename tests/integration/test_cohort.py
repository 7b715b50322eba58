"""A hundred studies, ten of them bad, by every engine, with processes killed, and by two runs at once."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monai_zsad.distributed.claims import Claims
from monai_zsad.writers.status import read_rows
from tests.bundles.runs import config_file
from tests.data.samples import write_nifti
from tests.integration.test_many import BAD, damage
from tests.integration.whole import problems, results

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "bundles" / "tiny_screening"
SMALL = ["--set", "image_size=64", "--no-progress", "--weights", "model=seed:0", "--set", "report=false"]
BAD_CASES = [f"study{number:03}_scan" for number in BAD]
HALF = 40
"""Studies of the tests that run them many times."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for number in range(100):
        path = folder / f"{number // HALF}" / f"study{number:03}" / "scan.nii.gz"
        write_nifti(path, (12, 10, 4), seed=number)
        if number in BAD:
            damage(path, number // 10 % 5)
    return folder


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"} | more


def screen(scans: Path, output: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "monai_zsad", "screen", str(scans), "-o", str(output), *SMALL, *options]


def torchrun(scans: Path, output: Path, *options: str, **torch_options: str) -> list[str]:
    own = [word for key, value in torch_options.items() for word in (f"--{key}", value)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *own]
    bundle = ["-m", "monai.bundle", "run", "--config_file", config_file(TINY), "--bundle_root", str(TINY)]
    small = ["--image_size", "64", "--progress", "false", "--weights#model", "seed:0", "--report", "false"]
    return [*launcher, *bundle, "--dataset_dir", str(scans), "--output_dir", str(output), *small, *options]


def ended(command: list[str]) -> tuple[int, str]:
    """Exit code and words of a command."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
    )
    return done.returncode, done.stdout


def check_whole(output: Path, expected: dict[str, str], bad: list[str]) -> None:
    """Every case settled once, every file whole and as expected, and nothing left over."""
    assert problems(output, expected, bad) == []


@pytest.fixture(scope="module")
def alone(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Results of all cases, by one process."""
    output = tmp_path_factory.mktemp("alone") / "out"
    code, said = ended(screen(archive, output))
    assert code == 1, said
    assert "90 done, 10 refused in " in said
    expected = results(output)
    assert len({name.split("/")[0] for name in expected}) == 90
    check_whole(output, expected, BAD_CASES)
    return expected


@pytest.fixture(scope="module")
def first(alone: dict[str, str]) -> dict[str, str]:
    """Results of the first part of the archive."""
    return {name: value for name, value in alone.items() if int(name[5:8]) < HALF}


def test_torchrun(archive: Path, alone: dict[str, str], tmp_path: Path) -> None:
    code, said = ended(torchrun(archive, tmp_path))
    assert code == 1, said
    assert "90 done, 10 refused in " in said
    check_whole(tmp_path, alone, BAD_CASES)
    assert sum(bool(re.search(r"\] study\d+_scan: volume score", line)) for line in said.splitlines()) == 90


def test_ray(archive: Path, alone: dict[str, str], tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    code, said = ended(screen(archive, tmp_path / "out", "--engine", "ray", "--workers", "2"))
    assert code == 1, said
    assert "90 done, 10 refused in " in said
    check_whole(tmp_path / "out", alone, BAD_CASES)


def owners(output: Path) -> list[int]:
    """Process ids of those at work in a folder."""
    claims = Claims(output)
    return [one.pid for one in claims.others()]


def kill_one(output: Path, after: int) -> int:
    """Kill one of those at work, once there are so many rows."""
    for _ in range(3000):
        pids = owners(output)
        if len(pids) > 1 and len(read_rows(output)) >= after:
            os.kill(pids[0], signal.SIGKILL)
            return pids[0]
        time.sleep(0.05)
    raise AssertionError("nobody was at work")


@pytest.mark.parametrize("engine", ["process", "ray"])
def test_a_worker_is_killed(archive: Path, first: dict[str, str], tmp_path: Path, engine: str) -> None:
    if importlib.util.find_spec(engine) is None and engine == "ray":
        pytest.skip("ray is not installed")
    output = tmp_path / "out"
    command = screen(archive / "0", output, "--engine", engine, "--workers", "2")
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        kill_one(output, 5)
        said, _ = process.communicate(timeout=600)
    assert process.returncode == 1, said
    assert "died: a new one" in (output / "run.log").read_text(encoding="utf-8")
    assert "36 done, 4 refused in " in said
    check_whole(output, first, BAD_CASES[:4])


def test_a_rank_is_killed(archive: Path, first: dict[str, str], tmp_path: Path) -> None:
    """torchrun ends all ranks with the one that died; started again by itself, or by hand, the run goes on."""
    with subprocess.Popen(torchrun(archive / "0", tmp_path), cwd=ROOT, env=environment()) as process:
        kill_one(tmp_path, 5)
        assert process.wait(timeout=120) != 0
    code, said = ended(torchrun(archive / "0", tmp_path, "--resume", "true"))
    assert code == 1, said
    check_whole(tmp_path, first, BAD_CASES[:4])

    again = tmp_path.parent / "again"
    with subprocess.Popen(torchrun(archive / "0", again, max_restarts="1"), cwd=ROOT, env=environment()) as process:
        kill_one(again, 5)
        # The bad studies' exit code counts as a failure to torchrun, too, but no restart is left.
        assert process.wait(timeout=600) != 0
    check_whole(again, first, BAD_CASES[:4])


class Program:
    """``tests.integration.cohort_runs``, in a process of its own."""

    def __init__(self, scans: Path) -> None:
        command = [sys.executable, "-m", "tests.integration.cohort_runs", str(scans)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def _ask(self, *command: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def start(self, folder: Path, **options: Any) -> int:
        return self._ask("start", str(folder), options)

    def wait(self, pid: int) -> int:
        return os.waitstatus_to_exitcode(self._ask("wait", pid))


@pytest.fixture(scope="module")
def program(archive: Path) -> Iterator[Program]:
    served = Program(archive / "0")
    yield served
    served.process.kill()
    served.process.communicate()


def test_killed_at_random_moments(program: Program, first: dict[str, str], tmp_path: Path) -> None:
    moments = random.Random(0)
    killed = finished = leftovers = 0
    output = tmp_path / "out0"
    while killed < 20:
        pid = program.start(output, resume=True)
        time.sleep(moments.uniform(0.2, 6))
        os.kill(pid, signal.SIGKILL)
        code = program.wait(pid)
        killed += code == -signal.SIGKILL
        for name, value in results(output).items():
            if Path(name).name.startswith("."):
                leftovers += 1
            else:
                assert first[name] == value, f"{name} is not whole"
        if code == 1:
            check_whole(output, first, BAD_CASES[:4])
            finished += 1
            output = tmp_path / f"out{finished}"
    assert program.wait(program.start(output, resume=True)) == 1
    check_whole(output, first, BAD_CASES[:4])
    print(f"{killed} kills in {finished + 1} runs, {leftovers} temporary files found after them")


@pytest.mark.parametrize("resume", [False, True])
def test_two_runs_at_once(program: Program, first: dict[str, str], tmp_path: Path, resume: bool) -> None:
    output = tmp_path / "out"
    pids = [program.start(output, resume=resume) for _ in range(2)]
    codes = [program.wait(pid) for pid in pids]
    said = [Path(f"{output}.{pid}.log").read_text() for pid in pids]
    assert codes == [1, 1], said
    done = [re.findall(r"study\d+_scan +score 0\.\d+", text) for text in said]
    assert all(done), "each has done some"
    assert len({*done[0], *done[1]}) == len(done[0]) + len(done[1]) == 36
    check_whole(output, first, BAD_CASES[:4])


def test_a_second_run_takes_what_is_left(program: Program, first: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "out"
    one = program.start(output)
    while len(read_rows(output)) < 5:
        time.sleep(0.02)
    other = program.start(output, resume=True)
    assert (program.wait(one), program.wait(other)) == (1, 1)
    check_whole(output, first, BAD_CASES[:4])


def test_retry_and_limit(archive: Path, program: Program, first: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert program.wait(program.start(output, limit=7)) == 1
    assert len(read_rows(output)) == 7
    assert program.wait(program.start(output, limit=7, resume=True, order="size")) in (0, 1)
    assert 12 <= len(read_rows(output)) <= 14
    assert program.wait(program.start(output, resume=True)) == 1
    before = {path: path.stat().st_mtime_ns for path in output.glob("[!.]*/*")}
    rows = {row.case: row for row in read_rows(output)}
    assert program.wait(program.start(output, retry_failed=True)) == 1
    again = {row.case: row for row in read_rows(output)}
    assert {case for case in rows if rows[case].run != again[case].run} == set(BAD_CASES[:4])
    assert {path: path.stat().st_mtime_ns for path in output.glob("[!.]*/*")} == before
    check_whole(output, first, BAD_CASES[:4])

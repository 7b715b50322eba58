"""What the checks of a finished run and of the cohort benchmark notice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from monai_zsad.writers import SaveCased, SaveManifestd
from monai_zsad.writers.run_tables import publish
from monai_zsad.writers.status import STATUS_FOLDER, StatusRow, read_row, read_rows, write_row
from tests.benchmarks import cohort
from tests.integration.whole import problems, results

BAD = "dora"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two cases with results, and a refused one."""
    (tmp_path / STATUS_FOLDER).mkdir()
    last = SaveManifestd(keys="pred", output_dir=tmp_path, meta={"method": "crane"})
    for case in ("anna", "ben"):
        data: dict[Any, Any] = {"case": case, "pred": torch.full((1, 2, 3, 4), float(len(case)))}
        last(SaveCased(keys="pred", output_dir=tmp_path)(data))
        write_row(tmp_path, StatusRow(case, "done", volume_score=0.5))
    write_row(tmp_path, StatusRow(BAD, "refused", ("empty-file",), "is empty"))
    publish(tmp_path, read_rows(tmp_path))
    return tmp_path


def lose(folder: Path) -> None:
    (folder / STATUS_FOLDER / "ben.json").unlink()


def change(folder: Path) -> None:
    (folder / "ben" / "anomaly.nii.gz").write_bytes((folder / "anna" / "anomaly.nii.gz").read_bytes())


def double(folder: Path) -> None:
    table = folder / "status.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[-1]]) + "\n")


def rename(folder: Path) -> None:
    (folder / "ben").rename(folder / "ben_2")


def fail(folder: Path) -> None:
    write_row(folder, StatusRow(BAD, "failed", reason="something else"))


def leave(folder: Path) -> None:
    (folder / "ben" / ".anomaly.nii.gz.0.tmp").touch()


def claim(folder: Path) -> None:
    (folder / STATUS_FOLDER / "ben.0.claim").touch()


def forget(folder: Path) -> None:
    summary = folder / "summary.json"
    content = json.loads(summary.read_text())
    summary.write_text(json.dumps({**content, "cases": content["cases"][1:]}))


@pytest.mark.parametrize(
    ("harm", "notice"),
    [
        (lose, "ben: lost"),
        (change, "ben/anomaly.nii.gz: another content"),
        (double, "dora: 2 times in status.csv"),
        (rename, "ben_2/anomaly.nii.gz: not expected"),
        (fail, "dora: failed"),
        (leave, ".anomaly.nii.gz.0.tmp: left over"),
        (claim, "ben.0.claim: left over"),
        (forget, "anna: 0 times in summary.json"),
    ],
)
def test_a_fault_is_noticed(folder: Path, harm: Callable[[Path], None], notice: str) -> None:
    expected = results(folder)
    assert problems(folder, expected, [BAD]) == []
    harm(folder)
    found = problems(folder, expected, [BAD])
    assert any(one.startswith(notice) for one in found), found


@pytest.mark.parametrize("again", [False, True])
def test_a_study_that_is_screened_again_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    def start(scans: Path, output: Path, options: Sequence[str], whole: cohort.Run, *_: object) -> None:
        if not whole.kills:
            whole.kills.append(cohort.Kill(1.0))
        elif again and (row := read_row(output, "ben")):
            write_row(output, row)

    monkeypatch.setattr(cohort, "start", start)
    found = cohort.run(folder, folder, (), [1], random.Random(0)).problems
    assert found == (["ben: screened again"] if again else [])


def test_a_kill_reaches_processes_in_groups_of_their_own() -> None:
    inner = "import time; time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], start_new_session=True)"
    process = subprocess.Popen([sys.executable, "-c", outer], start_new_session=True)
    while len(processes := cohort.tree(process.pid)) < 2:
        time.sleep(0.02)
    assert cohort.kill(process) == []
    assert not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

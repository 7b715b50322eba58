"""What ``screen`` shows: lines, summary, events; what Ctrl-C does; and the command that ``--dry-run`` prints."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from monai_zsad.cli.main import app
from monai_zsad.errors import ConfigurationError, InputError
from monai_zsad.writers.status import read_rows
from tests.data.samples import write_nifti

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--set", "image_size=64", "--weights", "model=seed:0"]


def screen(scans: Path, output: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["screen", str(scans), "-o", str(output), *SMALL, *options])


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """anna, and dora, which is damaged."""
    folder = tmp_path_factory.mktemp("scans")
    write_nifti(folder / "anna.nii.gz", (24, 20, 6))
    (folder / "dora.nii.gz").write_bytes((folder / "anna.nii.gz").read_bytes()[:-40])
    return folder


@pytest.fixture(scope="module")
def results(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    output = tmp_path_factory.mktemp("screened")
    return output, screen(scans, output)


def test_a_line_per_scan_a_summary_and_nothing_else(results: tuple[Path, Result]) -> None:
    output, done = results
    assert done.exit_code == 1
    anna, dora, summary = done.stdout.splitlines()
    assert "anna" in anna
    assert anna.endswith(str(output / "anna" / "report.html"))
    assert Path(anna.split()[-1]).is_file()
    assert "dora.nii.gz" in dora
    assert "copy or export it again" in dora
    assert summary.startswith("1 done, 1 refused in ")
    assert str(output / "index.html") in summary
    assert done.stderr == ""


def test_the_log_holds_the_rest(results: tuple[Path, Result]) -> None:
    log = (results[0] / "run.log").read_text(encoding="utf-8")
    assert "monai-zsad" in log.splitlines()[0]
    assert "wrote " in log
    assert "ignite.engine" in log
    assert "random weights" in log


def test_quiet_and_json(scans: Path, results: tuple[Path, Result], tmp_path: Path) -> None:
    done = screen(scans / "anna.nii.gz", results[0], "--resume", "--quiet")
    (line,) = done.stdout.splitlines()
    assert done.exit_code == 0
    assert "nothing to do" in line
    done = screen(scans / "anna.nii.gz", tmp_path / "out", "--log-json")
    events = [json.loads(one) for one in done.stdout.splitlines()]
    assert [one["event"] for one in events if one["event"] != "progress"] == [
        "run-started",
        "scan-started",
        "scan-finished",
        "run-finished",
    ]
    assert Path(events[-1]["index"]).is_file()
    assert Path(events[-1]["log"]).is_file()


def test_tables_that_a_killed_run_lacks(scans: Path, results: tuple[Path, Result]) -> None:
    """A run was killed after its last row: all cases are complete, but nothing lists them."""
    folder, _ = results
    before = {name: (folder / name).read_text() for name in ("summary.json", "status.csv", "index.html")}
    for name in before:
        (folder / name).unlink()
    done = screen(scans / "anna.nii.gz", folder, "--resume", "--quiet")
    assert "nothing to do" in done.stdout
    assert {name: (folder / name).read_text() for name in before} == before


def test_a_run_that_fails_is_an_event_and_an_error(scans: Path, results: tuple[Path, Result]) -> None:
    done = screen(scans / "anna.nii.gz", results[0], "--resume", "--plane", "coronal", "--log-json")
    assert done.exit_code == 1
    assert "settings" in str(done.exception)
    (event,) = map(json.loads, done.stdout.splitlines())
    assert event["event"] == "error"
    assert event["message"] == str(done.exception)


def test_the_levels_exclude_each_other(scans: Path, tmp_path: Path) -> None:
    done = screen(scans, tmp_path / "out", "-q", "-v")
    assert isinstance(done.exception, ConfigurationError)
    assert "--quiet and --verbose" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_results_and_log_are_not_taken_for_scans(results: tuple[Path, Result], tmp_path: Path) -> None:
    done = screen(results[0], tmp_path / "out")
    assert isinstance(done.exception, InputError)
    assert "holds no scan" in str(done.exception)


@pytest.mark.slow
def test_the_printed_command_keeps_the_workers(scans: Path, tmp_path: Path) -> None:
    output = tmp_path / "my results"
    options = ["--workers", "2", "--state", "edema", "--window", "[40, 80]", "--dry-run"]
    printed = screen(scans, output, *options).stdout
    assert not output.exists()
    words = shlex.split(printed)
    assert words[0] == "python"
    done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    assert sorted(line.split()[1] for line in done.stdout.splitlines()[:-1]) == ["anna", "dora"]
    assert {row.case: row.status for row in read_rows(output)} == {"anna": "done", "dora": "refused"}
    findings = json.loads((output / "anna" / "findings.json").read_text(encoding="utf-8"))
    assert findings["settings"]["window"] == [40, 80]
    log = (output / "run.log").read_text(encoding="utf-8")
    assert len({line.split("[")[1].split("]")[0] for line in log.splitlines() if line[:2] == "20"}) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--workers", "2"]])
def test_after_ctrl_c_resume_goes_on(scans: Path, tmp_path: Path, options: list[str]) -> None:
    for number in range(6):
        write_nifti(tmp_path / "scans" / f"scan{number}.nii.gz", (24, 20, 6), seed=number)
    output = tmp_path / "out"
    command = [sys.executable, "-m", "monai_zsad", "screen", str(tmp_path / "scans"), "-o", str(output), *SMALL]
    with subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs with this signal ignored, and programs inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        while not read_rows(output):
            assert run.poll() is None
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate()
    # MONAI runs a bundle by `eval`, after which Python ends itself by the signal; a shell shows 130 in both cases.
    assert run.returncode in (130, -signal.SIGINT)
    assert "--resume" in said
    assert len(said.splitlines()) == 1
    finished = {row.case: row.run for row in read_rows(output)}
    done = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row.case: row for row in read_rows(output)}
    assert len(rows) == 6
    assert all(rows[case].run == run_of for case, run_of in finished.items())


@pytest.mark.slow
def test_the_demo_is_short_and_finds_its_lesion(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monai_zsad", "demo", "-o", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) <= 6
    assert "inside it" in done.stdout
    assert str(tmp_path / "results" / "sample_flair" / "report.html") in done.stdout

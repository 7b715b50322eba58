"""``screen``, ``calibrate``, ``info``, ``report``: the bundle's run by other words, and what is made of its results."""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from monai_zsad.cli.main import app
from monai_zsad.errors import ConfigurationError, OutputError
from monai_zsad.writers.status import read_rows
from tests.bundles.runs import ROOT, run_small
from tests.data.samples import write_nifti, write_series

TINY = ROOT / "tiny_screening"
runner = CliRunner()
SMALL = ["--set", "image_size=64", "--no-progress", "--weights", "model=seed:0"]


def invoke(*words: str) -> Any:
    """Run a command without its logging configuration, which would close streams that other handlers hold (absl's)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monai.bundle.workflows.fileConfig", lambda *arguments, **options: None)
        return runner.invoke(app, list(words))


def screen(scans: Path, output: Path, *options: str) -> int:
    result = invoke("screen", str(scans), "-o", str(output), *SMALL, *options)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code


def read(folder: Path, case: str, what: str) -> dict:
    return json.loads((folder / case / f"{what}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """anna and ben: NIfTI; dora: damaged."""
    folder = tmp_path_factory.mktemp("scans")
    for number, name in enumerate(("anna", "ben")):
        write_nifti(folder / f"{name}.nii.gz", (24, 20, 6), seed=number)
    (folder / "dora.nii.gz").write_bytes((folder / "anna.nii.gz").read_bytes()[:-40])
    return folder


@pytest.fixture(scope="module")
def results(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("screened")
    assert screen(scans, output, "--threshold", "0.1") == 1
    return output


def test_one_bad_scan_leaves_the_others_and_an_index(results: Path) -> None:
    summary = json.loads((results / "summary.json").read_text())
    assert {case["case"]: case["status"] for case in summary["cases"]} == {
        "anna": "done",
        "ben": "done",
        "dora": "failed",
    }
    assert sorted(path.name for path in (results / "anna").iterdir()) == [
        "anomaly.nii.gz",
        "candidates.nii.gz",
        "findings.csv",
        "findings.json",
        "manifest.json",
        "preview.png",
        "report.html",
        "scores.json",
    ]
    with (results / "status.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert {case: (row["status"], row["codes"]) for case, row in rows.items()} == {
        "anna": ("done", ""),
        "ben": ("done", ""),
        "dora": ("refused", "damaged"),
    }
    assert "dora.nii.gz" in rows["dora"]["reason"]
    assert float(rows["anna"]["volume_score"]) == read(results, "anna", "findings")["volume_score"]
    page = (results / "index.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("anna", "ben", "dora"))


def test_candidates_lie_where_the_map_is_above_the_threshold(results: Path) -> None:
    found = read(results, "anna", "findings")
    anomaly = np.asanyarray(nibabel.load(results / "anna" / "anomaly.nii.gz").dataobj)
    labels = np.asanyarray(nibabel.load(results / "anna" / "candidates.nii.gz").dataobj)
    assert found["settings"]["threshold"] == 0.1
    assert found["candidates"]
    assert set(np.unique(labels)) == {0, *(one["id"] for one in found["candidates"])}
    assert anomaly[labels > 0].min() > 0.1
    first = found["candidates"][0]
    assert first["peak_score"] == pytest.approx(float(anomaly[labels == 1].max()), abs=1e-6)


def test_same_files_as_the_bundles_own_run(scans: Path, results: Path, tmp_path: Path) -> None:
    run_small(TINY, scans / "ben.nii.gz", tmp_path, candidate_threshold=0.1)
    for name in ("anomaly.nii.gz", "candidates.nii.gz", "findings.json", "findings.csv", "scores.json"):
        assert (tmp_path / "ben" / name).read_bytes() == (results / "ben" / name).read_bytes(), name


def test_nothing_is_replaced_and_resume_does_what_is_missing(scans: Path, results: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="already holds results of anna"):
        screen(scans, results, "--threshold", "0.1")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in results.glob("[!.]*/*") if path.is_file()}
    lost = results / "ben" / "findings.csv"
    lost.write_text("half")
    assert screen(scans, results, "--threshold", "0.1", "--resume") == 1
    for path, (changed, content) in before.items():
        # Neither a manifest nor a report holds a date, and the weights are the same.
        assert path.read_bytes() == content, path
        assert (path.stat().st_mtime_ns == changed) == (path.parent.name == "anna"), path
    with pytest.raises(OutputError, match="other settings"):
        screen(scans, results, "--threshold", "0.2", "--resume")
    assert screen(scans / "anna.nii.gz", results, "--threshold", "0.1", "--resume") == 0
    summary = json.loads((results / "summary.json").read_text())
    assert len(summary["cases"]) == 3
    # As after a kill between the last file of a case and its row.
    (results / ".status" / "anna.json").unlink()
    assert screen(scans, results, "--threshold", "0.1", "--resume") == 1
    assert {row.case: row.status for row in read_rows(results)} == {"anna": "done", "ben": "done", "dora": "refused"}
    assert all(path.read_bytes() == content for path, (_, content) in before.items())


def test_limit_profile_and_retry(scans: Path, tmp_path: Path) -> None:
    assert screen(scans, tmp_path, "--limit", "1", "--profile") == 0
    (row,) = read_rows(tmp_path)
    assert row.case == "anna"
    assert list(row.parts) == ["read", "prepare", "network", "invert", "findings", "write"]
    assert screen(scans, tmp_path, "--resume", "--order", "random", "--limit", "2") == 1
    first = {row.case: row for row in read_rows(tmp_path)}
    assert first["anna"] == row
    assert screen(scans, tmp_path, "--retry-failed") == 1
    again = {row.case: row for row in read_rows(tmp_path)}
    assert [case for case in first if first[case].run != again[case].run] == ["dora"]
    assert len(json.loads((tmp_path / "summary.json").read_text())["cases"]) == 3


def test_a_query_is_not_shared_among_workers(tmp_path: Path) -> None:
    result = invoke("screen", "dicomweb://127.0.0.1:9/dicom-web/series", "-o", str(tmp_path), "--workers", "2")
    assert isinstance(result.exception, ConfigurationError)
    assert "retrieve it with one worker" in str(result.exception)


def test_calibration_gives_p_values(scans: Path, results: Path, tmp_path: Path) -> None:
    file = tmp_path / "normal.json"
    done = invoke("calibrate", str(results), "-o", str(file), "--alpha", "0.5")
    assert done.exit_code == 0, done.output
    assert "2 reference scans" in done.output
    with pytest.raises(OutputError, match="--overwrite"):
        raise invoke("calibrate", str(results), "-o", str(file)).exception
    options = ("--threshold", "0.1", "--calibration", str(file))
    assert screen(scans / "anna.nii.gz", tmp_path / "out", *options) == 0
    found = read(tmp_path / "out", "anna", "findings")
    assert found["volume_p_value"] in (2 / 3, 1.0)
    assert all(one["p_value"] in (pytest.approx(2 / 3), 1.0) for one in found["candidates"])
    # Other settings of the candidates: the case fails, in a sentence.
    assert screen(scans / "anna.nii.gz", tmp_path / "other", "--calibration", str(file)) == 1
    (record,) = json.loads((tmp_path / "other" / "summary.json").read_text())["cases"]
    assert "threshold" in record["reason"]


def test_dicom_objects_and_slicer_file(tmp_path: Path) -> None:
    write_series(tmp_path / "scan" / "cleo", slices=6)
    options = ("--dicom", "seg,pm,sr", "--set", "seg_nrrd=true", "--threshold", "0.05", "--set", "min_volume_mm3=0")
    assert screen(tmp_path / "scan", tmp_path / "out", *options, "--case-names", "files") == 0
    names = {path.name for path in (tmp_path / "out" / "cleo").iterdir()}
    assert {"seg.dcm", "pm.dcm", "sr.dcm", "candidates.seg.nrrd"} <= names


def test_dry_run_prints_a_command_that_bundles_understand(scans: Path, tmp_path: Path) -> None:
    options = ["--plane", "coronal", "--state", "edema", "--window", "[40, 80]", "--dry-run"]
    done = invoke("screen", str(scans), "-o", str(tmp_path / "out"), *SMALL, *options)
    words = shlex.split(done.output)
    assert words[:4] == ["python", "-m", "monai.bundle", "run"]
    given = dict(zip(words[4::2], words[5::2], strict=True))
    assert given["--plane"] == "coronal"
    assert given["--window"] == "[40, 80]"
    assert given["--states"] == "['edema']"
    assert given["--weights#model"] == "seed:0"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "windw=brain"], "did you mean window"),
        (["--set", "plane=axial", "--plane", "axial"], "--set plane"),
        (["--bundle", "nobody"], "nobody"),
        (["--weights", "clip"], "--weights clip"),
        (["--order", "date"], "order"),
        (["--engine", "spark"], "--engine"),
        (["--ray-address", "auto"], "--engine ray"),
        (["--workers", "2", "--limit", "3"], "--limit"),
    ],
)
def test_wrong_options_are_sentences(scans: Path, tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        screen(scans, tmp_path / "out", *options)


def test_usage_error_is_exit_code_2_and_failure_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monai_zsad", "screen"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2
    missing = [*command, str(tmp_path / "nothing"), "-o", str(tmp_path / "out")]
    done = subprocess.run(missing, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr


def test_info_and_report(scans: Path, results: Path) -> None:
    done = invoke("info", str(scans))
    assert done.exit_code == 0, done.output
    assert "24 x 20 x 6" in done.output
    done = invoke("report", str(results), "--title", "Night list")
    assert done.output.strip() == str(results / "index.html")
    assert "Night list" in (results / "index.html").read_text(encoding="utf-8")


def test_repairs_on_request(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    write_series(folder, 8)[3].unlink()
    assert screen(folder, tmp_path / "plain") == 1
    refused = json.loads((tmp_path / "plain" / "summary.json").read_text(encoding="utf-8"))["cases"]
    assert "missing-slices" in refused[0]["reason"]
    options = ("--repair", "missing-slices", "--dicom", "seg,pm", "--case-names", "uid")
    assert screen(folder, tmp_path / "mended", *options) == 0
    (case,) = (path.parent.name for path in (tmp_path / "mended").glob("*/findings.json"))
    content = read(tmp_path / "mended", case, "findings")
    assert content["scan"]["shape"][2] == 8
    assert any("interpolated" in warning for warning in content["warnings"])
    (row,) = read_rows(tmp_path / "mended")
    assert row.status == "repaired"
    assert "slices-interpolated" in row.codes
    (row,) = read_rows(tmp_path / "plain")
    assert (row.status, row.codes) == ("refused", ("missing-slices",))
    # What no file of the source holds cannot refer to it.
    assert not list((tmp_path / "mended").rglob("*.dcm"))
    result = invoke("screen", str(folder), "-o", str(tmp_path / "odd"), *SMALL, "--repair", "holes")
    assert result.exit_code
    assert "missing-slices" in str(result.exception)


def test_one_series_of_several(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    for number in (1, 2):
        write_series(folder / f"s{number}", 6, number=number)
    assert screen(folder, tmp_path / "one", "--series", "2") == 0
    assert len(list((tmp_path / "one").glob("*/findings.json"))) == 1
    listed = invoke("info", str(folder), "--series", "2").output
    assert "1 of 2 can be screened" in listed
    assert "not chosen" in listed


def test_a_query_is_not_taken_for_a_path(tmp_path: Path) -> None:
    result = invoke("screen", "http://127.0.0.1:9/dicom-web/series?PatientID=7", "-o", str(tmp_path / "out"), *SMALL)
    assert result.exit_code
    assert "http://127.0.0.1:9/dicom-web" in str(result.exception)
    assert "no such" not in str(result.exception)

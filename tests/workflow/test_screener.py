"""``monai_zsad.workflow.screen``: the command's run by one call, and what it returns."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from monai_zsad.errors import ConfigurationError, InputError, OutputError, WeightsError
from monai_zsad.workflow import Screened, screen
from monai_zsad.workflow.launching import plan_workers
from monai_zsad.workflow.options.views import given_options
from tests.cli.test_screen import screen as screen_by_command
from tests.data.samples import write_nifti

SMALL: dict[str, Any] = {"image_size": 64, "progress": False}
SEEDED: dict[str, Any] = {"weights": {"model": "seed:0"}}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """anna; dora: damaged."""
    folder = tmp_path_factory.mktemp("scans")
    write_nifti(folder / "anna.nii.gz", (24, 20, 6))
    (folder / "dora.nii.gz").write_bytes((folder / "anna.nii.gz").read_bytes()[:-40])
    return folder


@pytest.fixture(scope="module")
def result(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Screened:
    return screen(scans, tmp_path_factory.mktemp("out"), threshold=0.1, **SMALL, **SEEDED)


def test_cases_and_files(result: Screened):
    assert not result.complete
    assert list(result.cases) == ["anna", "dora"]
    anna, dora = result.cases["anna"], result.cases["dora"]
    assert (anna.status, anna.is_done, anna.reason) == ("done", True, "")
    assert {"anomaly_map", "candidates", "preview", "report", "findings", "table"} <= anna.files.keys()
    assert all(file.is_file() and file.parent == result.folder / "anna" for file in anna.files.values())
    assert anna.volume_score is not None
    assert 0 < anna.volume_score < 1
    assert anna.candidates
    assert anna.candidates[0]["peak_score"] > 0.1
    assert result.failed == [dora]
    assert (dora.status, dora.codes, dora.volume_score) == ("refused", ("damaged",), None)
    assert "dora.nii.gz" in dora.reason
    assert not dora.files
    assert "1 done, 1 failed" in str(result)
    assert len(repr(result)) < 2000


def test_same_files_as_the_command(scans: Path, result: Screened, tmp_path: Path):
    assert screen_by_command(scans / "anna.nii.gz", tmp_path, "--threshold", "0.1") == 0
    for name in ("anomaly.nii.gz", "candidates.nii.gz", "findings.json", "scores.json"):
        own = result.folder / "anna" / name
        assert own.read_bytes() == (tmp_path / "anna" / name).read_bytes(), name


def test_leaves_the_interpreter_as_it_was_and_resumes(scans: Path, result: Screened):
    before = sys.excepthook, list(sys.path), list(logging.root.handlers), logging.root.level
    with pytest.raises(OutputError, match="results of anna"):
        screen(scans, result.folder, threshold=0.1, **SMALL, **SEEDED)
    again = screen(scans / "anna.nii.gz", result.folder, threshold=0.1, resume=True, **SMALL, **SEEDED)
    assert (sys.excepthook, list(sys.path), list(logging.root.handlers), logging.root.level) == before
    assert again.complete
    assert again.cases["anna"] == result.cases["anna"]
    assert again.cases.keys() == {"anna", "dora"}


def test_own_weights_and_none_for_the_default(scans: Path, tmp_path: Path):
    done = screen(scans / "anna.nii.gz", tmp_path / "out", anatomy=None, device="cpu", **SMALL)
    assert done.complete
    assert not done.failed
    with pytest.raises(WeightsError):
        screen(scans, tmp_path / "other", weights={"model": tmp_path / "nothing.pt"}, **SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windw": "brain"}, "--windw .*--window"),
        ({"bundle": "nobody"}, "nobody .*tiny_screening"),
        ({"engine": "spark"}, "engine.*process.*ray"),
        ({"workers": 2, "limit": 1}, "limit"),
        (
            {"threshold": 0.1, "candidate_threshold": 0.2},
            "candidate_threshold",
        ),
        ({"plane": "skew"}, "plane"),
    ],
)
def test_wrong_options_are_sentences(scans: Path, tmp_path: Path, options: dict, message: str):
    with pytest.raises(ConfigurationError, match=message):
        screen(scans, tmp_path / "out", **{**SMALL, **SEEDED, **options})


def test_no_scan_is_an_input_error(tmp_path: Path):
    with pytest.raises(InputError, match="nothing"):
        screen(tmp_path / "nothing", tmp_path / "out", **SMALL, **SEEDED)


def test_options_by_id_and_workers():
    assert given_options({"state": ["edema"], "prompts": "medical", "download": None}) == {
        "states": ["edema"],
        "prompt_set": "medical",
    }
    assert plan_workers("process", None, None, None, limit=3) is None
    plan = plan_workers("process", 3, None, None)
    assert plan is not None
    assert plan.count == 3

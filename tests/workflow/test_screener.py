"""``monai_zsad.workflow.screen``: the command's run by one call, and what it returns."""

from __future__ import annotations

import gc
import importlib.util
import logging
import stat
import sys
import tempfile
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import nibabel
import numpy as np
import pytest
import torch

from monai_zsad.errors import ConfigurationError, InputError, OutputError, WeightsError
from monai_zsad.workflow import Screened, Screener, screen
from monai_zsad.workflow.bundles import weights as workflow_weights
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
    assert len(anna.candidates) == len(anna.findings["candidates"]) > 0
    assert anna.findings["candidates"][0]["peak_score"] > 0.1
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
    assert again["anna"].findings == result["anna"].findings
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
        ({"windw": "brain"}, "windw .*window"),
        ({"bundle": "nobody"}, "nobody.*tiny_screening"),
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


@pytest.fixture(scope="module")
def screener() -> Screener:
    return Screener(threshold=0.1, report="none", **SMALL, **SEEDED)


@pytest.fixture(scope="module")
def one(scans: Path, screener: Screener) -> Screened:
    return screener(scans / "anna.nii.gz")


def test_one_scan_has_its_score_candidates_and_volumes(scans: Path, one: Screened):
    source = nibabel.load(scans / "anna.nii.gz")
    for volume in (one.map, one.labels, one.image):
        assert tuple(volume.shape) == (1, *source.shape)
        np.testing.assert_allclose(volume.affine, source.affine)
    np.testing.assert_array_equal(one.image[0], source.get_fdata())
    assert one.score == one["anna"].volume_score == one.findings["volume_score"]
    assert len(one.candidates) == len(one.findings["candidates"]) > 0
    first = one.findings["candidates"][0]
    assert one.candidates["peak_score"][0] == first["peak_score"]
    assert one.candidates["peak_ras_x_mm"][0] == first["peak_ras_mm"][0]
    assert set(np.unique(one.labels)) == {0, *one.candidates["id"]}
    assert float(one.map[0][tuple(first["peak_voxel"])]) == pytest.approx(first["peak_score"], abs=1e-6)
    assert one.unfamiliar is False
    assert one.map is one.map
    assert one.warnings == one.findings["warnings"]
    assert one.table["score"].tolist() == [one.score]
    assert (dict(one), list(one.items()), bool(one)) == (one.cases, [("anna", one["anna"])], True)
    assert repr(one).count("\n") == 0
    assert f"{one.score:.3f}" in repr(one)
    assert f"{first['peak_score']:.3f}" in one._repr_html_()


def test_without_pandas_there_are_dictionaries(one: Screened, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert one.candidates[0]["peak_score"] == one.findings["candidates"][0]["peak_score"]
    assert [row["case"] for row in one.table] == ["anna"]


def test_the_model_stays_loaded_and_the_results_are_those_of_screen(
    scans: Path, screener: Screener, one: Screened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    alone = screen(scans / "anna.nii.gz", tmp_path / "alone", threshold=0.1, report="none", **SMALL, **SEEDED)
    # From here on, no weights can be loaded.
    monkeypatch.setattr(workflow_weights, "load_weights", None)
    monkeypatch.setattr("monai_zsad.workflow.load_weights", None)
    brain = screener(scans / "anna.nii.gz", anatomy="brain")
    again = screener(scans / "anna.nii.gz", tmp_path / "again")
    for name in ("anomaly.nii.gz", "candidates.nii.gz", "findings.json", "scores.json"):
        wanted = (alone.folder / "anna" / name).read_bytes()
        assert (one.folder / "anna" / name).read_bytes() == wanted, name
        assert (again.folder / "anna" / name).read_bytes() == wanted, name
    assert not torch.equal(brain.map.as_tensor(), one.map.as_tensor())
    assert brain.findings["model"]["prompts"] != one.findings["model"]["prompts"]


def test_a_list_of_scans(scans: Path, screener: Screener, one: Screened):
    result = screener([scans / "anna.nii.gz", scans / "dora.nii.gz", one.image])
    assert list(result) == ["anna", "dora", "scan"]
    assert [case.status for case in result.values()] == ["done", "refused", "done"]
    assert result["anna"].score == result["scan"].score == one.score
    assert [case.case for case in result.failed] == ["dora"]
    with pytest.raises(ConfigurationError, match="3 scans"):
        _ = result.score
    assert "dora" in result._repr_html_()
    assert repr(result).count("\n") == 0


def test_an_array_that_is_refused_raises_the_reason_where_it_is_asked(screener: Screener):
    result = screener(np.zeros((12, 12, 6), np.float32), affine=np.eye(4))
    (case,) = result.failed
    assert (case.status, case.codes) == ("refused", ("constant",))
    for name in ("score", "candidates", "map", "image", "labels", "warnings", "findings", "files"):
        with pytest.raises(InputError, match="refused") as caught:
            getattr(result, name)
        assert caught.value.code == "constant"
    with pytest.raises(InputError, match="refused"):
        result.show()
    assert "refused" in repr(result)
    assert "refused" in result._repr_html_()


def test_a_temporary_folder_lives_as_long_as_its_results(scans: Path, screener: Screener, tmp_path: Path):
    result = screener(nibabel.load(scans / "anna.nii.gz"))
    folder, case = result.folder, result["anna"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert result.save(tmp_path / "kept") == tmp_path / "kept"
    names = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path / "kept") for path in (tmp_path / "kept").rglob("*") if path.is_file()} == names
    with pytest.raises(OutputError, match="exists"):
        result.save(tmp_path / "kept")
    assert case.save(tmp_path / "cases") == tmp_path / "cases" / "anna"
    assert (tmp_path / "cases" / "anna" / "findings.json").is_file()
    del result
    gc.collect()
    assert folder.is_dir()
    assert case.image.shape == case.map.shape
    del case
    gc.collect()
    assert not folder.exists()


def test_progress_is_told_and_can_end_the_run(scans: Path, screener: Screener, tmp_path: Path):
    heard: list[tuple[float, str]] = []
    screener(scans / "anna.nii.gz", on_progress=lambda *told: heard.append(told))
    fractions = [fraction for fraction, _ in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert len(set(fractions)) > 3

    def stop(fraction: float, text: str) -> None:
        if fraction > 0.3:
            raise TimeoutError(text)

    with pytest.raises(TimeoutError):
        screener(scans / "anna.nii.gz", tmp_path / "out", on_progress=stop)
    assert not (tmp_path / "out" / "anna" / "manifest.json").exists()
    assert screener(scans / "anna.nii.gz", tmp_path / "out", resume=True).complete


def test_threads_take_turns(scans: Path, screener: Screener, one: Screened):
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(screener, [scans / "anna.nii.gz"] * 2))
    assert all(torch.equal(result.map.as_tensor(), one.map.as_tensor()) for result in results)


def test_wrong_options_are_said_when_a_screener_is_made():
    with pytest.raises(ConfigurationError, match=r"windw .*window"):
        Screener(windw="brain")
    with pytest.raises(ConfigurationError, match="plane"):
        Screener(plane="skew")


def test_show_opens_the_report_and_a_copy_of_a_temporary_one(
    result: Screened, one: Screened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    opened: list[Path] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(Path(unquote(urlsplit(address).path))))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result["anna"].show()
    assert opened[-1] == result["anna"].files["report"]
    one.show()
    assert tmp_path in opened[-1].parents
    assert "<title>anna</title>" in opened[-1].read_text(encoding="utf-8")


def test_show_in_jupyter_is_a_frame_with_the_viewer(one: Screened, monkeypatch: pytest.MonkeyPatch):
    display = pytest.importorskip("IPython.display")
    shown: list[Any] = []
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=True))
    monkeypatch.setattr(display, "display", shown.append)
    one.show()
    assert "&lt;title&gt;anna&lt;/title&gt;" in shown[0].data

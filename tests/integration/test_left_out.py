"""A folder with one good scan and one of every kind that is not screened: each of them stands in the results."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from monai_zsad.data import CODES
from monai_zsad.errors import InputError
from monai_zsad.result_files import INPUT_MARK
from monai_zsad.workflow import Screened, screen
from monai_zsad.workflow.cases.redaction import redact_cases
from monai_zsad.writers import write_index
from monai_zsad.writers.status import read_rows
from tests.bundles.runs import ROOT, run_small
from tests.data.odd_inputs import CATALOGUE
from tests.data.samples import write_nifti, write_series
from tests.writers.test_report import Page

OPTIONS: dict[str, Any] = {
    "image_size": 64, "progress": False, "report": False, "weights": {"model": "seed:0"}, "case_names": "files",
}  # fmt: skip
KINDS = {name: case.verdict.split()[1] for name, case in CATALOGUE.items() if case.verdict.startswith("left-out ")}
COUNTS = Counter(KINDS.values())
REFUSED = sum(CODES[code].kind != "left-out" for code in KINDS.values())


@pytest.fixture(autouse=True)
def _nothing_redacted() -> Any:
    yield
    redact_cases([], [])


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for name in KINDS:
        (folder / name).mkdir()
        CATALOGUE[name].build(folder / name)
        # The archive holds a copy of the only scan that stays.
        if name != "archive_of_the_scan_beside":
            (folder / name / "scan.nii.gz").unlink()
    return folder


@pytest.fixture(scope="module")
def result(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Screened:
    return screen(scans, tmp_path_factory.mktemp("out"), **OPTIONS)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "status.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def assert_all_listed(folder: Path) -> None:
    """Once each, in every table."""
    rows = [row for row in table(folder) if row["case"].startswith(INPUT_MARK)]
    assert Counter(row["codes"] for row in rows) == COUNTS
    for row in rows:
        assert row["status"] == ("left-out" if CODES[row["codes"]].kind == "left-out" else "refused")
        assert "; " in row["reason"], "no remedy"
    content = summary(folder)
    assert (content["done"], content["failed"], content["left_out"]) == (1, REFUSED, len(KINDS) - REFUSED)
    listed = [one for one in content["cases"] if one["case"].startswith(INPUT_MARK)]
    assert Counter(code for one in listed for code in one["codes"]) == COUNTS
    page = Page((folder / "index.html").read_text(encoding="utf-8")).text
    for row in rows:
        assert " ".join(row["reason"].split()) in page
    assert f"{len(KINDS) - REFUSED} left out" in page
    assert f"{REFUSED} refused" in page


def test_every_kind_is_listed_beside_the_scan(result: Screened, scans: Path) -> None:
    assert not result.complete, "some of them are taken for scans"
    assert [case.case for case in result.cases.values()] == ["scan"]
    assert result.cases["scan"].is_done
    assert len(result.inputs) == len(KINDS) >= 14
    assert len(result.failed) == REFUSED
    assert all(str(scans) in one.reason for one in result.inputs.values()), "a path in each reason"
    assert_all_listed(result.folder)
    printed = str(result).splitlines()
    assert printed[-1] == f"1 done, {REFUSED} failed, {len(KINDS) - REFUSED} left out"
    for code in COUNTS:
        line = "left out: " if CODES[code].kind == "left-out" else "refused: "
        assert any(one.startswith(line) and one.endswith(f"[{code}]") for one in printed)
    # They have no folder of results, so everything that reads results passes them.
    assert [path.name for path in result.folder.iterdir() if path.is_dir() and path.name[0] != "."] == ["scan"]


def test_again_with_resume_and_with_several_workers(result: Screened, scans: Path, tmp_path: Path) -> None:
    ids = sorted(result.inputs)
    again = screen(scans, result.folder, resume=True, **OPTIONS)
    assert not again.complete
    assert sorted(again.inputs) == ids
    assert_all_listed(result.folder)
    shared = screen(scans, tmp_path / "out", workers=2, **OPTIONS)
    assert not shared.complete
    assert sorted(shared.inputs) == ids
    assert_all_listed(tmp_path / "out")
    rows = [row for row in read_rows(tmp_path / "out") if row.case.startswith(INPUT_MARK)]
    assert len({row.run for row in rows}) == 1, "written by the leader alone"
    write_index(result.folder)
    assert_all_listed(result.folder)


@pytest.mark.parametrize("names", ["auto", "uid", "hash"])
def test_private_names_are_not_shown(scans: Path, tmp_path: Path, names: str, caplog: pytest.LogCaptureFixture) -> None:
    options = {**OPTIONS, "case_names": names, "case_key": str(tmp_path / "key.csv")}
    done = screen(scans, tmp_path / "out", **options)
    assert_all_listed(tmp_path / "out")
    hidden = [*KINDS, "study.tar", "export.bin", "sent.zip", "IM_0001", "I0001", "scout", "anna"]
    hidden += ["scan_seg", "screenshot", "dwi.mif"] if names == "hash" else []
    written = [file for file in (tmp_path / "out").rglob("*") if file.suffix in (".csv", ".json", ".html")]
    logged = [record.getMessage() for record in caplog.records if record.name.startswith(("monai_zsad", "pydicom"))]
    said = " ".join(logged) + str(done) + " ".join(file.name + file.read_text(encoding="utf-8") for file in written)
    assert [name for name in hidden if re.search(rf"\b{re.escape(name)}\b", said)] == []
    if names != "hash":
        assert "dwi.mif: has a format that is not read" in said
    with (tmp_path / "key.csv").open(encoding="utf-8", newline="") as stream:
        known = {row["case"]: row["image"] for row in csv.DictReader(stream)}
    assert {*known} == {*done.cases, *done.inputs}
    assert str(scans / "tar_beside" / "study.tar") in known.values()


def test_what_is_left_out_on_purpose_does_not_change_the_exit_code(tmp_path: Path) -> None:
    write_nifti(tmp_path / "in" / "anna.nii.gz", (12, 10, 4))
    write_series(tmp_path / "in" / "scout", slices=3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    bundle, output = ROOT / "tiny_screening", tmp_path / "out"
    run_small(bundle, tmp_path / "in", output, report=False)
    assert [row["status"] for row in table(output)] == ["done", "left-out"]
    assert (summary(output)["failed"], summary(output)["left_out"]) == (0, 1)
    # The same run finds an archive now; then it is unpacked, and its row goes.
    (tmp_path / "in" / "new.tar").touch()
    with pytest.raises(SystemExit) as ended:
        run_small(bundle, tmp_path / "in", output, report=False, resume=True)
    assert ended.value.code == 1
    assert sorted(row["status"] for row in table(output)) == ["done", "left-out", "refused"]
    (tmp_path / "in" / "new.tar").unlink()
    run_small(bundle, tmp_path / "in", output, report=False, resume=True)
    assert [row["status"] for row in table(output)] == ["done", "left-out"]
    # Another folder's inputs stay in the tables.
    write_nifti(tmp_path / "more" / "ben.nii.gz", (12, 10, 4))
    (tmp_path / "more" / "ben.mif").touch()
    with pytest.raises(SystemExit):
        run_small(bundle, tmp_path / "more", output, report=False, resume=True)
    assert Counter(row["status"] for row in table(output)) == {"done": 2, "left-out": 1, "refused": 1}
    assert summary(output)["left_out"] == 1


def test_nothing_to_screen_ends_with_all_reasons(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "study.tar").touch()
    write_series(tmp_path / "in" / "scout", slices=3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    with pytest.raises(InputError) as refused:
        screen(tmp_path / "in", tmp_path / "out", **OPTIONS)
    assert refused.value.code == "no-scan"
    for reason in ("1 x is not a zip archive (unread-archive)", "3 x localizer (localizer)"):
        assert f"left out {reason}" in str(refused.value)

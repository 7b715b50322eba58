from __future__ import annotations

import csv
import gzip
import json
import logging
import os
import re
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_zsad.data import ScanReader
from monai_zsad.data.discovery.case_ids import hashed_id
from monai_zsad.errors import ConfigurationError, InputError, OutputError
from monai_zsad.workflow.cases.names import CASE_NAMES, SALT_VARIABLE, find_cases
from monai_zsad.workflow.cases.redaction import redact, redact_cases
from tests.bundles.runs import ROOT, run_small
from tests.data.samples import CAPTURE, write_nifti, write_series
from tests.writers.dicom.test_conformance import text_keywords

HASHED = r"case-[0-9a-f]{16}"


@pytest.fixture(autouse=True)
def nothing_redacted(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv(SALT_VARIABLE, raising=False)
    yield
    redact_cases([], [])


def cases(folder: Path, output: Path, *arguments: Any) -> dict[str, str]:
    """Case by the name of the file or folder that it was read from."""
    records = find_cases(folder, output, *arguments)
    assert len({record["case"].casefold() for record in records}) == len(records)
    return {
        Path(r["image"]).name if isinstance(r["image"], str) else Path(r["image"][0]).parent.name: r["case"]
        for r in records
    }


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    write_nifti(tmp_path / "in" / "anna.nii.gz")
    write_series(tmp_path / "in" / "DOE^JANE")
    return tmp_path / "in"


def test_a_series_is_hashed_and_a_users_file_keeps_its_name(mixed: Path, tmp_path: Path) -> None:
    found = cases(mixed, tmp_path / "out")
    assert found["anna.nii.gz"] == "anna"
    assert re.fullmatch(HASHED, found["DOE^JANE"])


@pytest.mark.parametrize(
    ("names", "file", "series"), [("files", "anna", "DOE-JANE"), ("hash", HASHED, HASHED), ("uid", "anna", r"[\d.]+")]
)
def test_other_ways_to_name(mixed: Path, tmp_path: Path, names: str, file: str, series: str) -> None:
    found = cases(mixed, tmp_path / "out", names)
    assert re.fullmatch(file, found["anna.nii.gz"])
    assert re.fullmatch(series, found["DOE^JANE"])
    assert names in CASE_NAMES
    assert (tmp_path / "out" / ".case_salt").exists() == (names == "hash")


def test_salt_is_made_once_for_its_user_alone(mixed: Path, tmp_path: Path) -> None:
    first = cases(mixed, tmp_path / "out")
    salt = tmp_path / "out" / ".case_salt"
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    assert len(salt.read_text().strip()) == 64
    assert cases(mixed, tmp_path / "out") == first
    assert cases(mixed, tmp_path / "other")["DOE^JANE"] != first["DOE^JANE"]
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".case_salt"]
    salt.write_text("")
    with pytest.raises(OutputError, match=r"\.case_salt"):
        find_cases(mixed, tmp_path / "out")


def test_salt_of_the_environment(mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SALT_VARIABLE, "a long secret")
    first = cases(mixed, tmp_path / "out")
    assert first == cases(mixed, tmp_path / "other")
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv(SALT_VARIABLE, "short")
    with pytest.raises(ConfigurationError, match=f"{SALT_VARIABLE}.* 8"):
        find_cases(mixed, tmp_path / "out")


def test_names_do_not_follow_folders(mixed: Path, tmp_path: Path) -> None:
    first = cases(mixed, tmp_path / "out")["DOE^JANE"]
    (mixed / "DOE^JANE").rename(mixed / "moved")
    assert cases(mixed, tmp_path / "out")["moved"] == first


def test_equal_series_get_different_names(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_series(tmp_path / "in" / folder, SeriesInstanceUID="1.2.3", prefix=folder)
    # The search makes one case of a series in two folders. In a list, these are two cases.
    listed = tmp_path / "scans.csv"
    listed.write_text("image\nin/a\nin/b\n")
    first, second = (record["case"] for record in find_cases(listed, tmp_path / "out"))
    assert second == f"{first}_2"
    first, second = (record["case"] for record in find_cases(listed, tmp_path / "out", "uid"))
    assert (first, second) == ("1.2.3", "1.2.3_2")


def test_a_lists_own_id_is_kept(mixed: Path, tmp_path: Path) -> None:
    listed = tmp_path / "scans.json"
    series = str(mixed / "DOE^JANE")
    rows = [{"image": series, "case": "study 7"}, {"image": str(mixed / "anna.nii.gz")}]
    listed.write_text(json.dumps(rows))
    assert [record["case"] for record in find_cases(listed, tmp_path / "out")] == ["study-7", "anna"]
    assert "DOE" not in redact(f"{series}: slices are missing")
    assert all(re.fullmatch(HASHED, record["case"]) for record in find_cases(listed, tmp_path / "out", "hash"))


def test_a_hostile_uid_is_not_a_path(tmp_path: Path) -> None:
    for number, uid in enumerate(("../../x", "/etc/passwd", "..", "a" * 300)):
        folder = tmp_path / str(number)
        for file in write_series(folder, slices=2):
            image = pydicom.dcmread(file)
            with pydicom.config.disable_value_validation():
                image.SeriesInstanceUID = uid
                image.save_as(file)
        for names in ("uid", "auto"):
            (record,) = find_cases(folder, tmp_path / "out", names)
            assert re.fullmatch(r"\w[\w.-]{0,99}", record["case"])


def test_key_file_tells_which_is_which(mixed: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.csv"
    found = cases(mixed, tmp_path / "out", "auto", key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with key.open(encoding="utf-8", newline="") as stream:
        rows = {row["case"]: row["image"] for row in csv.DictReader(stream)}
    assert rows == {found["anna.nii.gz"]: str(mixed / "anna.nii.gz"), found["DOE^JANE"]: str(mixed / "DOE^JANE")}
    with pytest.raises(OutputError, match=r"key\.csv"):
        find_cases(mixed, tmp_path / "out", "auto", tmp_path / "no" / "key.csv")


def test_wrong_arguments(mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"case_names=.*auto, files, hash, uid"):
        find_cases(mixed, tmp_path / "out", "names")
    if os.geteuid():
        (tmp_path / "out").mkdir(mode=0o500)
        with pytest.raises(OutputError, match="another --output_dir"):
            find_cases(mixed, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="another --output_dir"):
        find_cases(mixed, tmp_path / "file")


def test_an_unreadable_listed_file_is_named_by_a_hash_and_fails_later(tmp_path: Path) -> None:
    (tmp_path / "DOE.dcm").write_bytes(b"no DICOM")
    listed = tmp_path / "scans.csv"
    listed.write_text("image\nDOE.dcm\n")
    (record,) = find_cases(listed, tmp_path / "out")
    assert re.fullmatch(HASHED, record["case"])


@given(st.lists(st.text(min_size=1), min_size=2, unique=True), st.text(min_size=8))
def test_hashes_differ_and_tell_nothing(names: list[str], salt: str) -> None:
    hashes = [hashed_id(name, salt) for name in names]
    assert len(set(hashes)) == len(names)
    assert all(re.fullmatch(HASHED, one) for one in hashes)


def test_logs_of_reading_name_the_case(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = write_series(tmp_path / "ZQDOE", prefix="ZQ")
    copy = files[0].with_name("ZQcopy.dcm")
    copy.write_bytes(files[0].read_bytes())
    write_nifti(tmp_path / "anna.nii.gz")
    with caplog.at_level(logging.DEBUG):
        found = find_cases(tmp_path, tmp_path / "out")
        case, record = next((r["case"], r) for r in found if not isinstance(r["image"], str))
        _, meta = ScanReader().get_data(record["image"])
    assert "dropped" in meta["warnings"]
    assert f"{case}: 1 identical" in caplog.text
    assert "ZQ" not in caplog.text
    assert redact(f"{tmp_path / 'anna.nii.gz'}: damaged") == f"{tmp_path / 'anna.nii.gz'}: damaged"


def test_names_of_files_are_shown_where_asked_for(mixed: Path, tmp_path: Path) -> None:
    find_cases(mixed, tmp_path / "out")
    find_cases(mixed, tmp_path / "out", "files")
    assert redact(f"{mixed / 'DOE^JANE'}: damaged") == f"{mixed / 'DOE^JANE'}: damaged"


def planted_series(folder: Path, **options: Any) -> list[Path]:
    """A series with a name in every text tag, in its folder and in its files."""
    files = write_series(folder, prefix=f"ZQXQZfile{options.get('number', 1)}_", **options)
    planted = sorted(text_keywords().items())
    for file in files:
        image = pydicom.dcmread(file)
        for number, (keyword, vr) in enumerate(planted):
            setattr(image, keyword, f"ZQXQZ{number:04d}^Odd" if vr == "PN" else f"ZQXQZ{number:04d}")
        image.PatientBirthDate, image.PatientID = "19010203", "ZQXQZ^ID"
        image.private_block(0x0011, "ZQXQZ8888", create=True).add_new(1, "LO", "ZQXQZ7777")
        image.save_as(file)
    return files


def unpacked(file: Path) -> bytes:
    content = file.read_bytes()
    if file.name.endswith(".seg.nrrd"):
        head, _, body = content.partition(b"\n\n")
        return head + gzip.decompress(body)
    return gzip.decompress(content) if file.suffix == ".gz" else content


def test_no_name_of_a_dicom_series_is_written_or_logged(tmp_path: Path) -> None:
    source = tmp_path / "in"
    files = planted_series(source / "ZQXQZDOE^JANE" / "ZQXQZ good", slices=5)
    files[0].with_name("ZQXQZcopy.dcm").write_bytes(files[0].read_bytes())
    planted_series(source / "ZQXQZDOE^JANE" / "ZQXQZ good", slices=1, number=2, sop_class=CAPTURE)
    # A series without one of its slices, a cut file beside two series, and one alone.
    planted_series(source / "ZQXQZMISSING" / "ZQXQZ1")[3].unlink()
    mixed = planted_series(source / "ZQXQZMIXED", number=3)
    planted_series(source / "ZQXQZMIXED", number=4)
    (source / "ZQXQZMIXED" / "ZQXQZcut.dcm").write_bytes(mixed[0].read_bytes()[:200])
    damaged = planted_series(source / "ZQXQZDAMAGED", number=5)
    damaged[2].write_bytes(damaged[2].read_bytes()[:-20])
    (source / "ZQXQZALONE").mkdir()
    (source / "ZQXQZALONE" / "ZQXQZalone.dcm").write_bytes(b"nothing")
    output = tmp_path / "out"
    command = [sys.executable, "-m", "monai_zsad", "screen", str(source), "-o", str(output), "--threshold", "0.05"]
    command += ["--set", "image_size=64", "--weights", "model=seed:0", "--set", "min_volume_mm3=0"]
    command += ["--dicom", "seg,pm,sr", "--set", "seg_nrrd=true", "--bundle", str(ROOT / "tiny_screening")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MONAI_ZSAD_TRACEBACK": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "ZQXQZ" not in said, [line for line in said.splitlines() if "ZQXQZ" in line]
    assert "19010203" not in said
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    states = [(record["status"], *record.get("codes", ())) for record in summary["cases"]]
    # The cut file and the one alone are no cases. The picture of the screen is none either.
    expected = ["done"] * 3 + ["failed missing-slices", "failed undecodable"]
    expected += ["failed damaged"] * 2 + ["left-out capture"]
    assert sorted(map(" ".join, states)) == sorted(expected), summary
    written = [file for file in output.rglob("*") if file.is_file()]
    assert {file.suffix for file in written} >= {".gz", ".json", ".csv", ".html", ".png", ".nrrd", ".dcm"}
    for file in written:
        assert "ZQXQZ" not in str(file.relative_to(output))
        if file.suffix != ".dcm":
            content = unpacked(file)
            assert b"ZQXQZ" not in content, file.name
            assert b"19010203" not in content, file.name
    # The results have the warnings, without these names.
    findings = [json.loads(file.read_text(encoding="utf-8")) for file in output.glob("*/findings.json")]
    said = " ".join(warning for content in findings for warning in content["warnings"])
    assert "identical" in said
    assert "left out beside the scan" in said
    assert "unreadable" in said
    assert any("missing" in record.get("reason", "") for record in summary["cases"])


def test_what_lies_in_an_archive_is_not_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = planted_series(tmp_path / "in" / "ZQXQZDOE")
    files[2].unlink()
    (tmp_path / "in" / "ZQXQZDOE" / "ZQXQZcut.dcm").write_bytes(files[0].read_bytes()[:200])
    for number in (1, 2):
        with zipfile.ZipFile(tmp_path / f"ZQXQZ{number}.zip", "w") as archive:
            for file in (tmp_path / "in").rglob("*.dcm"):
                archive.write(file, file.relative_to(tmp_path / "in"))
    with zipfile.ZipFile(tmp_path / "ZQXQZbad.zip", "w") as archive:
        archive.writestr("../ZQXQZ.dcm", b"x")
    (tmp_path / "in").rename(tmp_path / ".in")
    for place in (tmp_path / "ZQXQZ1.zip", tmp_path):
        with caplog.at_level(logging.DEBUG):
            records = find_cases(place, tmp_path / "out")
        assert all(re.fullmatch(HASHED + "(_2)?", record["case"]) for record in records)
        for record in records:
            with caplog.at_level(logging.DEBUG), pytest.raises(InputError) as caught:
                ScanReader().get_data(record["image"])
            assert "ZQXQZ" not in redact(str(caught.value))
            assert "ZQXQZ" not in record.get("warnings", "")
        assert "ZQXQZ" not in caplog.text.replace(str(tmp_path / "ZQXQZ1.zip"), "")


def test_a_hashed_run_is_resumed(tmp_path: Path) -> None:
    write_series(tmp_path / "in" / "DOE")
    run_small(ROOT / "tiny_screening", tmp_path / "in", tmp_path / "out")
    (folder,) = (path for path in (tmp_path / "out").glob("[!.]*") if path.is_dir())
    assert re.fullmatch(HASHED, folder.name)
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    write_series(tmp_path / "in" / "ROE", number=2)
    run_small(ROOT / "tiny_screening", tmp_path / "in", tmp_path / "out", resume=True)
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    assert len([path for path in (tmp_path / "out").glob("[!.]*") if path.is_dir()]) == 2


def test_input_errors_stay(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing"):
        find_cases(tmp_path / "nothing", tmp_path / "out")

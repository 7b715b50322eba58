from __future__ import annotations

import csv
from pathlib import Path

import pytest

from monai_zsad.errors import OutputError
from monai_zsad.result_files import INPUT_MARK
from monai_zsad.writers.run_tables import result_table
from monai_zsad.writers.status import (
    STATUS_FOLDER,
    StatusRow,
    read_row,
    read_rows,
    remove_rows,
    row_identity,
    write_row,
    write_tables,
)

ROWS = [
    StatusRow("anna", "done", volume_score=0.25, seconds=1.5, parts={"read": 0.5}),
    StatusRow("ben", "repaired", ("set-aside", "jitter"), volume_score=0.5, run="r"),
    StatusRow("=1+1", "refused", ("empty-file",), "ben.nii: is empty,\nsaid the reader"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / STATUS_FOLDER).mkdir()
    return tmp_path


def test_rows_come_back(folder: Path) -> None:
    for row in ROWS:
        assert row_identity(folder, row.case) is None
        write_row(folder, row)
        assert read_row(folder, row.case) == row
    assert read_rows(folder) == sorted(ROWS, key=lambda row: row.case)


def test_a_row_that_is_written_anew_is_another(folder: Path) -> None:
    write_row(folder, ROWS[0])
    before = row_identity(folder, "anna")
    write_row(folder, ROWS[0])
    assert row_identity(folder, "anna") != before


def test_damaged_rows_and_temporaries_count_for_none(folder: Path) -> None:
    write_row(folder, ROWS[0])
    text = (folder / STATUS_FOLDER / "anna.json").read_text()
    (folder / STATUS_FOLDER / "ben.json").write_text(text[:-9])
    (folder / STATUS_FOLDER / "cleo.json").touch()
    (folder / STATUS_FOLDER / ".zsad-0123abcd.dora.json").write_text(text)
    assert [row.case for row in read_rows(folder)] == ["anna"]


def test_summary_knows_two_states() -> None:
    assert [row.summary() for row in ROWS] == [
        {"case": "anna", "status": "done", "volume_score": 0.25, "seconds": 1.5},
        {"case": "ben", "status": "done", "volume_score": 0.5, "seconds": 0.0},
        {"case": "=1+1", "status": "failed", "reason": ROWS[2].reason, "codes": ["empty-file"], "seconds": 0.0},
    ]


def test_an_input_that_is_no_scan_is_neither_done_nor_failed() -> None:
    row = StatusRow(f"{INPUT_MARK}1-2", "left-out", ("mask",), "a_seg.nii: is a mask")
    assert (row.is_done, row.has_failed) == (False, False)
    assert row.summary() == {
        "case": "input~1-2", "status": "left-out", "reason": row.reason, "codes": ["mask"], "seconds": 0.0,
    }  # fmt: skip
    refused = StatusRow(f"{INPUT_MARK}1-3", "refused", ("unread-format",), "b.mif: is not read")
    assert (refused.has_failed, refused.summary()["status"]) == (True, "failed")


def test_the_printed_table_shows_inputs_behind_the_cases() -> None:
    inputs = [StatusRow(f"{INPUT_MARK}1-{n}", "left-out", ("localizer",), "a localizer") for n in range(3)]
    inputs += [StatusRow(f"{INPUT_MARK}2-{n}", "left-out", ("mask",), f"{n}_seg.nii: is a mask") for n in range(40)]
    inputs.append(StatusRow(f"{INPUT_MARK}3", "refused", ("unread-format",), "b.mif: is not read; convert it"))
    lines = result_table([row.summary() for row in [*inputs, *ROWS]]).splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["case", "anna", "ben", "=1+1"]
    assert "refused: b.mif: is not read; convert it [unread-format]" in lines
    assert "left out: 3 x a localizer [localizer]" in lines
    assert "left out: 21 more, see status.csv" in lines
    assert lines[-1] == "2 done, 2 failed, 43 left out"
    assert len(lines) == 4 + 3 + 22


def test_rows_of_an_earlier_search_are_removed(folder: Path) -> None:
    for case in ("anna", "input~1-2", "input~1-3", "input~2-2"):
        write_row(folder, StatusRow(case, "left-out"))
    remove_rows(folder, "input~1-", keep={"input~1-3"})
    assert [row.case for row in read_rows(folder)] == ["anna", "input~1-3", "input~2-2"]


def test_csv(folder: Path) -> None:
    with write_tables(folder, ROWS)[0].open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["status"] for line in lines] == ["done", "repaired", "refused"]
    assert [line["codes"] for line in lines] == ["", "set-aside jitter", "empty-file"]
    assert [line["read_seconds"] for line in lines] == ["0.5", "", ""]
    assert lines[2]["case"] == "'=1+1", "no formula"
    assert lines[2]["reason"] == ROWS[2].reason


def test_parquet(folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    lines = parquet.read_table(write_tables(folder, ROWS)[1]).to_pylist()
    assert [line["codes"] for line in lines] == [[], ["set-aside", "jitter"], ["empty-file"]]
    assert [line["volume_score"] for line in lines] == [0.25, 0.5, None]
    assert lines[2]["case"] == "=1+1"
    parquet.read_table(write_tables(folder, [])[1])


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"anna\.json: cannot be written"):
        write_row(tmp_path, ROWS[0])

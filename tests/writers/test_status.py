from __future__ import annotations

import csv
from pathlib import Path

import pytest

from monai_zsad.errors import OutputError
from monai_zsad.writers.status import (
    STATUS_FOLDER,
    StatusRow,
    read_row,
    read_rows,
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
    (folder / STATUS_FOLDER / ".0123abcd.dora.json").write_text(text)
    assert [row.case for row in read_rows(folder)] == ["anna"]


def test_summary_knows_two_states() -> None:
    assert [row.summary() for row in ROWS] == [
        {"case": "anna", "status": "done", "volume_score": 0.25, "seconds": 1.5},
        {"case": "ben", "status": "done", "volume_score": 0.5, "seconds": 0.0},
        {"case": "=1+1", "status": "failed", "reason": ROWS[2].reason, "seconds": 0.0},
    ]


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

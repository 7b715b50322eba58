from __future__ import annotations

import sys
from pathlib import Path

import pytest

from monai_zsad.data.discovery.scan_lists import read_scan_list
from monai_zsad.errors import ConfigurationError, InputError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "Image": [["a/1.dcm", "a/2.dcm"], ["b.nii.gz"]],
        "case": ["anna", None],
        "modality": ["ct", None],
        "age": [7, 8],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "scans.parquet")
    return tmp_path / "scans.parquet"


def test_parquet(table: Path) -> None:
    first, second = read_scan_list(table)
    assert first.images == (table.parent / "a/1.dcm", table.parent / "a/2.dcm")
    assert (first.case, first.modality) == ("anna", "CT")
    assert (second.images, second.case, second.modality) == ((table.parent / "b.nii.gz",), "", "")


def test_parquet_of_plain_paths_and_a_damaged_one(table: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"image": ["/scans/b.nii.gz"]}), table)
    assert read_scan_list(table)[0].images == (Path("/scans/b.nii.gz"),)
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be used as a list of scans") as caught:
        read_scan_list(table)
    assert caught.value.code == "bad-datalist"


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scans.parquet").touch()
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match="needs pyarrow"):
        read_scan_list(tmp_path / "scans.parquet")

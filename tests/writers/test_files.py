from __future__ import annotations

import os

import pytest

from monai_zsad.errors import OutputError
from monai_zsad.writers import CaseLayout, atomic_path


def test_failure_leaves_the_old_file_and_no_rest(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def half_written():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_written()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_success_replaces(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_disk_errors_become_sentences(tmp_path):
    def full_disk():
        with atomic_path(tmp_path / "a.txt"):
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"a\.txt: cannot be written \(no space left on device\)"):
        full_disk()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        CaseLayout(tmp_path / "file", "x", ".png", makedirs=True).filename(subject="anna")


@pytest.mark.parametrize("case", ["", "a/b", "..", "/etc"])
def test_case_cannot_lead_out_of_the_folder(tmp_path, case):
    with pytest.raises(OutputError, match="cannot name a folder"):
        CaseLayout(tmp_path, "x", ".png").filename(subject=case)

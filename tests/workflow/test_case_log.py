from __future__ import annotations

import io
import sys

import pytest

from monai_zsad.workflow.case_log import StudyBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_studies_per_hour_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    bar = StudyBar(True)
    bar.start(3)
    bar.advance()
    bar.less()
    bar.advance()
    bar.close()
    last = shown.getvalue().split("\r")[-1]
    assert "studies: 2/2" in last
    assert "studies/h" in last
    assert "left" in last


@pytest.mark.parametrize(
    ("wanted", "total", "stream"), [(False, 3, Terminal()), (True, 1, Terminal()), (True, 3, None)]
)
def test_nothing_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch, wanted, total, stream) -> None:
    shown = stream or io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    bar = StudyBar(wanted)
    bar.start(total)
    bar.advance()
    bar.less()
    bar.close()
    assert shown.getvalue() == ""

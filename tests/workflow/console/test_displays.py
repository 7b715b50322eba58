from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from monai_zsad.workflow.console.displays import JsonLines, Lines, both, fractions
from monai_zsad.workflow.console.events import EVENTS, emit, emit_end, emit_scan, listening
from monai_zsad.writers.facts import SEEDED_WARNING
from monai_zsad.writers.status import StatusRow

ROWS = [
    StatusRow("anna", "done", volume_score=0.998, seconds=2.5),
    StatusRow("ben", "repaired", ("slices-interpolated",), volume_score=0.25),
    StatusRow("dora", "refused", ("damaged",), "dora.nii.gz: is damaged; copy it again"),
    StatusRow("emil", "failed", ("out-of-memory",), "out of memory; use a smaller batch_size"),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def steps(self) -> list[str]:
        return [step.strip() for step in self.getvalue().split("\r") if step.strip()]


def terminal(monkeypatch: pytest.MonkeyPatch) -> tuple[Terminal, Terminal]:
    """stdout and stderr become those of a terminal. (pytest would replace what a fixture sets.)"""
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "findings.json").write_text(json.dumps({"candidates": [{}, {}], "warnings": []}))
    (tmp_path / "anna" / "report.html").touch()
    (tmp_path / "index.html").touch()
    return tmp_path


def run(to: Any, folder: Path, rows: list[StatusRow] = ROWS, complete: int = 0) -> None:
    """A whole run, as its events."""
    with listening(to):
        emit("run-started", results=str(folder), scans=len(rows), complete=complete)
        for number, row in enumerate(rows, start=1):
            emit("scan-started", case=row.case)
            emit("progress", case=row.case, done=3, total=6)
            emit_scan(folder, row, number, len(rows))
        left = StatusRow("input~1", "left-out", ("mask",), "mask.nii.gz: is a mask")
        emit("input", case=left.case, status=left.status, codes=list(left.codes), reason=left.reason)
        emit_end(folder, [*rows, left], complete, 75.2)


def test_one_line_per_scan_and_a_summary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Lines(), folder)
    shown = capsys.readouterr()
    first, second, third, fourth, summary = shown.out.splitlines()
    assert "[1/4] anna" in first
    assert "0.998" in first
    assert "2 candidates" in first
    assert first.endswith(str(folder / "anna" / "report.html"))
    assert "slices-interpolated" in second
    assert ROWS[2].reason in third
    assert ROWS[3].reason in fourth
    for fact in ("2 done", "1 refused", "1 failed", "1 left out", "1 min 15 s", str(folder / "index.html")):
        assert fact in summary
    assert shown.err == "", "no bar where stderr is no terminal"


def test_quiet_shows_failures_and_the_summary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = terminal(monkeypatch)
    run(Lines(quiet=True), folder)
    lines = streams[0].getvalue().splitlines()
    assert [line for line in lines if "anna" in line.split("/")[0]] == []
    assert len(lines) == 3
    assert streams[1].getvalue() == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_random_weights_are_said_in_the_line_of_the_scan(
    folder: Path, capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    made = json.dumps({"candidates": [], "warnings": [SEEDED_WARNING]})
    (folder / "anna" / "findings.json").write_text(made)
    run(Lines(quiet=quiet), folder, ROWS[:1])
    assert "NOT A RESULT" in capsys.readouterr().out.splitlines()[0]


def test_nothing_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listening(Lines()):
        emit_end(folder, [], 5, 0.0)
    (line,) = capsys.readouterr().out.splitlines()
    assert "nothing to do" in line
    assert "5" in line
    assert str(folder / "index.html") in line


def test_the_bar_counts_scans_with_the_share_of_the_present_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = terminal(monkeypatch)
    lines = Lines()
    lines("run-started", {"scans": 2})
    lines("progress", {"case": "anna", "done": 3, "total": 6})
    assert lines._bar.n == 0.5
    with listening(lines):
        emit_scan(folder, ROWS[0], 1, 2)
    assert lines._bar.n == 1
    lines("progress", {"case": "ben", "done": 6, "total": 6})
    assert lines._bar.n == 2
    lines.close()
    assert any(step.startswith("1/2 scans") and "scans/h" in step for step in streams[1].steps)
    assert len(streams[0].getvalue().splitlines()) == 1, "the line of the scan stands on stdout"


def test_the_bar_counts_the_slices_of_a_single_scan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = terminal(monkeypatch)
    lines = Lines()
    lines.prepare()
    lines("run-started", {"scans": 1})
    lines("progress", {"case": "anna", "done": 3, "total": 6})
    lines._bar.refresh()
    lines.close()
    assert any(step.startswith("3/6 slices") for step in streams[1].steps)


@pytest.mark.parametrize("options", [{"progress": False}, {"quiet": True}])
def test_no_bar_where_it_is_not_wanted(folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, bool]) -> None:
    streams = terminal(monkeypatch)
    lines = Lines(**options)
    lines.prepare()
    run(lines, folder)
    assert streams[1].getvalue() == ""


def test_the_parts_of_the_time_come_with_profile(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Lines(), folder, [StatusRow("anna", "done", parts={"read": 1.0, "network": 3.0})])
    assert "75%" in capsys.readouterr().out


def test_refused_inputs_with_the_same_reason_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [StatusRow(f"input~{n}", "refused", ("unread-archive",), "an archive; unpack it") for n in range(3)]
    lines = Lines()
    for row in rows:
        lines("input", {"case": row.case, "status": row.status, "codes": row.codes, "reason": row.reason})
    with listening(lines):
        emit_end(folder, rows, 0, 1.0)
    refused, summary = capsys.readouterr().out.splitlines()
    assert "3 x an archive; unpack it [unread-archive]" in refused
    assert "3 refused" in summary


def test_json_lines_hold_the_documented_fields(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(JsonLines(), folder)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [one["event"] for one in events]
    assert set(names) == EVENTS.keys() - {"error", "features", "kind"}
    assert names.count("progress") == 1, "once per second at most"
    for one in events:
        for field in one.keys() - {"event", "time"}:
            assert field in EVENTS[one["event"]], f"{one['event']}: {field} is not documented"
    scan = next(one for one in events if one["event"] == "scan-finished")
    assert (scan["case"], scan["candidates"], scan["volume_score"]) == ("anna", 2, 0.998)
    end = events[-1]
    assert (end["done"], end["refused"], end["failed"], end["left_out"]) == (2, 1, 1, 1)


def test_fractions_rise_to_one(folder: Path) -> None:
    heard: list[float] = []
    run(fractions(lambda fraction, text: heard.append(fraction)), folder)
    assert heard == sorted(heard)
    assert (heard[0], heard[-1]) == (0.0, 1.0)


def test_both_hear_everything() -> None:
    heard: list[str] = []
    with listening(both(lambda name, fields: heard.append(name), lambda name, fields: heard.append(fields["case"]))):
        emit("scan-started", case="anna")
    emit("scan-started", case="ben")
    assert heard == ["scan-started", "anna"]
